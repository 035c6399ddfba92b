"""libzmq's own steerable proxy, for servers that are no green_router's, and for those who count
microseconds.

Rules of this file
  1. It runs in an OS thread of its own, without Python; from its beginning to its end the two
     sockets are its own.
  2. It is told what to do over a pair of sockets. What it has counted, it says there.

It shares out as DEALER does: the next request to the next server that is connected and whose queue
is not full, however much each has in hand. It cannot stop one direction (PAUSE stops the replies
too), and it counts frames, not messages. So a drain waits until no request has come for a second,
and cannot know what is still in hand.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from struct import unpack
from time import monotonic
from typing import Any

import gevent
import zmq
from gevent.event import Event
from gevent.hub import get_hub
from gevent.monkey import get_original

from ..errors import GreenRouterError
from ..hub.log import Log
from ..sockets.router import Router

log = Log("proxy")

start_new_thread = get_original("_thread", "start_new_thread")

CONTROL = "inproc://proxy-control"

ANSWER_WITHIN = 2.0
"""Seconds that the proxy has to say what it has counted. It does between two messages."""

QUIET = 1.0
"""Seconds without a request after which a drain is done."""

LOOK_EVERY = 0.1


class NativeProxy:
    """Passes messages between a ROUTER and a DEALER, in an OS thread.

    Args:
        front, back: bound, for clients and for servers.
    """

    def __init__(self, front: Router, back: Router) -> None:
        # A reply for a client that has gone would end the proxy.
        front.socket.setsockopt(zmq.ROUTER_MANDATORY, 0)
        self._sockets = [front.socket, back.socket]
        self._control, self._steering = (
            front.socket.context.socket(zmq.PAIR, socket_class=zmq.Socket) for _ in range(2)
        )
        self._control.bind(CONTROL)
        self._steering.connect(CONTROL)
        for each in (self._control, self._steering):
            each.setsockopt(zmq.LINGER, 0)
            each.setsockopt(zmq.RCVTIMEO, int(1000 * ANSWER_WITHIN))
        self._ended = Event()
        self._error: BaseException | None = None
        self._loop = get_hub().loop

    def run(self) -> None:
        """Pass messages until ``end``. **Blocks** the calling greenlet; raises GreenRouterError
        where libzmq has no such proxy."""
        start_new_thread(self._run, (self._loop.run_callback_threadsafe,))
        self._ended.wait()
        self._control.close()
        self._steering.close()
        if isinstance(self._error, zmq.ZMQError) and self._error.errno == errno.EOPNOTSUPP:
            raise GreenRouterError(
                f"libzmq {zmq.zmq_version()} was built without the steerable proxy; leave out "
                "--round-robin"
            )
        if self._error is not None:
            raise self._error

    def _run(self, later: Callable[..., object]) -> None:
        """The thread."""
        try:
            front, back = self._sockets
            zmq.proxy_steerable(front, back, None, self._control)
        except BaseException as error:
            self._error = error
        later(self._ended.set)

    def drain(self, seconds: float) -> int:
        """End when no request has come for a second. **Blocks**, for so long at the most; returns
        0: it does not know."""
        until = monotonic() + seconds
        passed, since = self.stats()["request_frames"], monotonic()
        while monotonic() < min(until, since + QUIET):
            gevent.sleep(LOOK_EVERY)
            now = self.stats()["request_frames"]
            if now != passed:
                passed, since = now, monotonic()
        self.end()
        return 0

    def end(self) -> None:
        """End at once."""
        if not self._ended.is_set():
            self._steering.send(b"TERMINATE", zmq.NOBLOCK)

    def stats(self) -> dict[str, Any]:
        """Return what was passed on; plain data. Source: zmq_proxy_steerable(3), STATISTICS."""
        self._steering.send(b"STATISTICS", zmq.NOBLOCK)
        numbers = [unpack("=Q", frame)[0] for frame in self._steering.recv_multipart()]
        return {
            "dispatch": "round robin",
            "request_frames": numbers[0],
            "request_bytes": numbers[1],
            "reply_frames": numbers[2],
            "reply_bytes": numbers[3],
            "workers": [],
        }
