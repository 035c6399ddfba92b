"""Does what a handler's result asks for: a reply, a stream, a reply later, or none.

Rules of this file
  1. A request gets its one fate in settling.py, whatever a handler does; what has raised is judged
     in failures.py.
  2. Nothing here blocks but a stream and a push that are ahead of who takes them (windows.py). Code
     of the application runs in handler greenlets only: the handler and its generator.
  3. Logging may block: it is done in handler greenlets.

This object is the ``server`` that requests refer to.
"""

from __future__ import annotations

import os
import types
from collections.abc import Callable, Iterator
from functools import partial
from time import monotonic
from typing import Any

from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent

from ..errors import AlreadyReplied, BadReply, ServerStopped, WrongProcess
from ..hub import forked
from ..hub.log import Log
from ..messages.body import body_of, frame_of
from ..messages.in_flight import InFlight
from ..messages.ledger import ABANDONED, ANSWERED, LATE, NO_REPLY, PUSHES, STREAM_ITEMS, Ledger
from ..messages.request import BytesLike, Request
from ..messages.size import body_bytes, bytes_of
from ..settings import Settings
from ..sockets.connections import Connections
from .coroutines import ASYNCHRONOUS, Coroutines
from .departures import Departures, has_departed
from .failures import Failures
from .futures import Futures
from .greenlets import end_handler
from .hints import NOBODY_CAN_REPLY, UNKNOWN_CLIENT, wrong_tuple
from .mailbox import Mailbox
from .origin import connection_property, is_open
from .questions import Asked, Questions
from .reply_envelope import NO_ENVELOPE, AddressedPush, ReplyEnvelope
from .settling import Settling
from .streams import Streams
from .windows import Windows

log = Log("handlers")


class Results:
    """Judges results. Made in the serving thread.

    Args:
        name: of the handler, for messages.
        settings: of the server: ``handler_timeout``, ``envelope``.
        settling, failures, in_flight, mailbox, ledger: the neighbours.
        run, occupy: of the workplace, which is made later: it judges by this.
        windows: bound what streams and pushes are ahead.
        streams: those of the owner's parking; in a worker, some that nobody else looks at.
        connections: of the ROUTER; None in a worker, which knows none.
    Attributes:
        run, windows, streams: as above.
        settle, body: those of ``Settling``.
        departures: settles requests whose clients are gone.
        coroutines: those that handlers have returned.
        questions: to handlers that were not ready.
        stopped: True once nothing can leave any more.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        settling: Settling,
        failures: Failures,
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        run: Callable[[Callable[[], None]], None],
        occupy: Callable[[int], None],
        windows: Windows,
        streams: Streams,
        connections: Connections | None,
    ) -> None:
        self._name, self._in_flight, self._mailbox, self._ledger = (
            name,
            in_flight,
            mailbox,
            ledger,
        )
        self._settling, self._failures = settling, failures
        self.settle, self.body = settling.settle, settling.body
        self._timeout, self._policy = settings.handler_timeout, settings.envelope
        self._loop = get_hub().loop
        self._pid = os.getpid()
        self._hinted = self._warned_of_unknown = False
        self.stopped = False
        self.run = run
        self.windows, self.streams, self._connections = windows, streams, connections
        self.departures = Departures(settings, in_flight, mailbox)
        self.coroutines = Coroutines(self, failures, in_flight, mailbox, ledger, occupy)
        self.questions = Questions(
            in_flight, mailbox, self.departures, self.finish, failures.fail, failures.bug, occupy
        )
        self._futures = Futures(self, failures, in_flight, mailbox)
        forked.arm(self)

    # -- a handler has returned --------------------------------------------------------------------

    def finish(self, request: Request, result: Any) -> None:
        """HANDLER, OWNER. Do what the result asks for. Raises BadReply and what a generator
        raises."""
        me: Any = getcurrent()
        if type(result) is Asked:
            result.wait()
        elif result is None:
            if self._in_flight.owes(request):
                self._put_off(request)
        # ``isinstance`` would believe a proxy.
        elif issubclass(type(result), (bytes, list, bytearray, memoryview)):
            self.settle(request, self.body(request, result), ANSWERED)
        elif issubclass(type(result), tuple):
            self._finish_pair(request, tuple(result))
        elif hasattr(result, "add_done_callback") or hasattr(result, "rawlink"):
            self._futures.follow(request, result, self._dropped)
        elif issubclass(type(result), ASYNCHRONOUS):
            self.coroutines.start(request, result)
        elif not issubclass(type(result), Iterator):
            self.settle(request, self.body(request, result), ANSWERED)
        elif self._in_flight.holder(request) is getattr(me, "hold", None):
            self._stream(request, result)
        else:
            raise BadReply(result, self._name)

    def _put_off(self, request: Request) -> None:
        """HANDLER. Somebody who keeps it will answer it, or nobody."""
        if not self.departures.put_off(request):
            self._in_flight.defer(
                request,
                partial(self._dropped, ReplyEnvelope(request.frames, request.envelope_length)),
            )

    def _finish_pair(self, request: Request, pair: tuple[Any, ...]) -> None:
        """``(client_id, data)``, as in the hand-written loops: for the client that asked, or for
        another one."""
        if len(pair) != 2 or not issubclass(type(pair[0]), bytes):
            raise BadReply(pair, self._name, wrong_tuple(request.routing_id, pair))
        client_id, body = frame_of(pair[0], self._name), self.body(request, pair[1])
        if client_id == request.routing_id:
            self.settle(request, body, ANSWERED)
        elif self.settle(request, None, NO_REPLY):
            self._mailbox.put(
                (AddressedPush(self._policy.address(client_id), self.unknown_client), body, PUSHES)
            )

    def unknown_client(self, client_id: bytes) -> None:
        """OWNER. A handler has returned a pair whose first item is nobody's routing id."""
        if not self._warned_of_unknown:
            self._warned_of_unknown = True
            start = client_id[:8].hex() + ("..." if len(client_id) > 8 else "")
            shown = f"{len(client_id)} bytes, {start}"
            self.run(partial(log.warning, UNKNOWN_CLIENT, self._name, shown))

    # -- a stream ----------------------------------------------------------------------------------

    def _stream(self, request: Request, items: Iterator[Any]) -> None:
        """HANDLER. Send what the generator yields, one reply an item, no faster than the peer takes
        them."""
        put, owes, window = (
            self._mailbox.put,
            self._in_flight.owes,
            self.windows.of(request.frames[0]),
        )
        envelope, sent = bytes_of(request.frames[: request.envelope_length]), 0
        try:
            if window.left <= 0:
                window.wait()  # before anything is made
            for item in items:
                if window.left <= 0:
                    window.wait()  # other streams to that peer have filled it meanwhile
                if not owes(request):  # timed out, or its peer has gone
                    self._ledger.counts[LATE] += 1
                    return
                body = item if type(item) is bytes else self.body(request, item)
                put((request, body, STREAM_ITEMS))
                sent += 1
                size = envelope + (len(body) if body.__class__ is bytes else body_bytes(body))
                window.left -= size if size > window.least else window.least
                if window.left <= 0:
                    window.wait()
            self.settle(request, None, ANSWERED if sent else NO_REPLY)
        finally:
            if isinstance(items, types.GeneratorType):
                items.close()

    # -- later, from anywhere ----------------------------------------------------------------------

    def reply(self, request: Request, frames: tuple[BytesLike, ...], final: bool) -> None:
        """ANY THREAD. The reply that a handler, or somebody else, sends by ``request.reply``."""
        if os.getpid() != self._pid:
            raise WrongProcess("this request", self._pid, os.getpid())
        body = self.body(request, list(frames) or [b""])
        if not final:
            stream = self.streams.watch(request)  # first: then an item that is too late is noticed
            window = stream.window = stream.window or self.windows.of(request.frames[0])
            if window.left <= 0:
                window.wait()
            open_ = self._in_flight.owes(request)
            window.spend(
                bytes_of(request.frames[: request.envelope_length]) + body_bytes(body)
                if open_
                else 0
            )
        else:
            open_ = self._in_flight.claim(request)
        if open_:
            self._mailbox.put_threadsafe((request, body, ANSWERED if final else STREAM_ITEMS))
        elif self.stopped:
            raise ServerStopped("the server has ended; this reply cannot leave")
        else:
            raise AlreadyReplied(
                f"{request!r} has had its reply, or was given up; a second one would reach a REQ "
                "client as the answer to its next request"
            )

    def send(self, routing_id: bytes, frames: tuple[BytesLike, ...]) -> None:
        """ANY THREAD. A push to a peer, with the delimiter that the envelope policy has."""
        if os.getpid() != self._pid:
            raise WrongProcess("this server", self._pid, os.getpid())
        pushes = self.windows.pushes
        if pushes.left <= 0:
            pushes.wait()
        if self.stopped:
            raise ServerStopped("the server has ended; this message cannot leave")
        if not issubclass(type(routing_id), bytes) or not 1 <= len(routing_id) <= 255:
            raise ValueError(f"a routing id is 1 to 255 bytes, not {type(routing_id).__name__}")
        envelope = self._policy.address(frame_of(routing_id, "send"))
        body = body_of(list(frames) or [b""], "send")
        pushes.spend(bytes_of(envelope) + body_bytes(body))
        self._mailbox.put_threadsafe((ReplyEnvelope(envelope, len(envelope)), body, PUSHES))

    def replied(self, request: Request) -> bool:
        return not self._in_flight.owes(request)

    def age(self, request: Request) -> float:
        return monotonic() - request.received_at

    def time_left(self, request: Request) -> float | None:
        return (
            None
            if self._timeout is None
            else max(0.0, request.received_at + self._timeout - monotonic())
        )

    def connection_property(self, request: Request, name: str) -> str | None:
        return connection_property(request, name)

    def connected(self, request: Request) -> bool:
        connections = self._connections
        return not has_departed(request) and (connections is None or is_open(connections, request))

    def _dropped(self, remains: ReplyEnvelope) -> None:
        """ANY THREAD. Nobody can answer a request any more: its handler returned None and nobody
        kept it."""
        self._mailbox.put_threadsafe((remains, None, NO_REPLY))
        if not self._hinted:
            self._hinted = True
            self._mailbox.put_threadsafe(partial(self.run, self._hint))

    def _hint(self) -> None:
        log.warning(NOBODY_CAN_REPLY, self._name)

    # -- the end -----------------------------------------------------------------------------------

    def stop(self) -> None:
        """ANY THREAD. Nothing can leave any more, from now on: whoever replies is told so."""
        self.stopped = True

    def disarm(self) -> None:
        """In a forked child: nothing can be settled there, and what comes out of a handler ends the
        process."""
        self.stopped = True
        vars(self).update(finish=self._settling.came_back)

    def abandon(self, waiting: list[Request]) -> None:
        """OWNER or HUB. Settle everything that is unsettled as abandoned; end the handlers that
        still run."""
        for request in [*waiting, *self._failures.abandon()]:
            self._mailbox.put((request, None, ABANDONED))
        while self._in_flight.open:
            for key, greenlet in list(self._in_flight.open.items()):
                holder = self._in_flight.elsewhere.get(key, greenlet)
                if self._in_flight.open.pop(key, None) is not None:
                    self._mailbox.put((NO_ENVELOPE, None, ABANDONED))
                    running = holder.request
                    if running is not None and id(running) == key:
                        self._loop.run_callback(end_handler, holder, running, GreenletExit())
        self.windows.open()  # last: handlers that wait there are ended

    def give_up(self) -> None:
        """ANY THREAD. No greenlet can run any more: nobody settles anything from now on, and nobody
        is thrown at."""
        self.stop()
        self._failures.give_up()
        self._in_flight.open.clear()
        self.windows.open()
