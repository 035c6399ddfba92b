"""Turns every way in which a handler can end into exactly one fate of its request.

Rules of this file
  1. Whoever settles a request claims it first (messages/in_flight.py). Who loses the claim sends
     nothing.
  2. A fate is counted by the owner: settling means putting mail, with a body or without.
  3. Nothing here blocks but a stream and a push that are ahead of who takes them (windows.py). Code
     of the application runs in handler greenlets only: the handler, its generator, ``on_error``.
  4. An error is reported once: logged with its traceback, counted, and shown to ``on_error``. Of
     many errors in a second some are logged, and all counted.
  5. Logging may block: it is done in handler greenlets, and last.

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

from ..errors import (
    AlreadyReplied,
    BadReply,
    HandlerTimeout,
    PeerGone,
    Reject,
    ServerStopped,
    WrongProcess,
)
from ..hub import forked
from ..hub.log import Log
from ..hub.log_throttle import LogThrottle
from ..messages.body import body_of, frame_of
from ..messages.in_flight import InFlight
from ..messages.ledger import (
    ABANDONED,
    ANSWERED,
    CALLBACK_ERRORS,
    FAILED,
    LATE,
    NO_REPLY,
    PUSHES,
    REJECTED,
    STREAM_ITEMS,
    TIMED_OUT,
    Ledger,
)
from ..messages.request import BytesLike, Request
from ..messages.size import body_bytes, bytes_of
from ..settings import Settings
from ..sockets.connections import Connections
from .coroutines import ASYNCHRONOUS, Coroutines
from .departures import Departures, has_departed
from .futures import Futures
from .greenlets import end_handler
from .hints import ENVELOPE_IN_BODY, NOBODY_CAN_REPLY, UNKNOWN_CLIENT, wrong_tuple
from .mail import NO_ENVELOPE, AddressedPush, ReplyEnvelope
from .mailbox import Mailbox
from .on_error import OnError
from .origin import connection_property, is_open
from .streams import Streams
from .windows import Windows

log = Log("handlers")


def at_once(request: Request, ask: Callable[[], None]) -> None:
    """Ask on_error, and tell nobody before."""
    ask()


class Results:
    """Judges results and exceptions. Made in the serving thread.

    Args:
        name: of the handler, for messages.
        settings: of the server: ``on_error``, ``handler_timeout``, ``envelope``.
        in_flight, mailbox, ledger: the neighbours.
        crash: called with an exception that is a bug of this package, or asks the process to end.
        run, occupy: of the workplace, which is made later: it judges by this.
        windows: bound what streams and pushes are ahead.
        streams: those of the owner's parking; in a worker, some that nobody else looks at.
        connections: of the ROUTER; None in a worker, which knows none.
        asking: called with each request whose on_error is to be asked, and with what asks it.
        limits_on_error: whether ``handler_timeout`` holds for on_error here.
    Attributes:
        on_error: calls the application's, if there is one.
        run, windows, streams: as above.
        departures: settles requests whose clients are gone.
        coroutines: those that handlers have returned.
        in_on_error: requests that have failed and whose on_error has not returned, by their keys.
        stopped: True once nothing can leave any more.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        crash: Callable[[BaseException], None],
        run: Callable[[Callable[[], None]], None],
        occupy: Callable[[int], None],
        windows: Windows,
        streams: Streams,
        connections: Connections | None,
        asking: Callable[[Request, Callable[[], None]], None] = at_once,
        limits_on_error: bool = True,
    ) -> None:
        self._name, self._in_flight, self._mailbox, self._ledger, self._crash = (
            name,
            in_flight,
            mailbox,
            ledger,
            crash,
        )
        self._timeout, self._policy = settings.handler_timeout, settings.envelope
        self.on_error = (
            None
            if settings.on_error is None
            else OnError(
                settings.on_error,
                settings.handler_timeout if limits_on_error else None,
                mailbox,
                run,
                crash,
            )
        )
        self._loop = get_hub().loop
        self._pid = os.getpid()
        self._hinted = self._warned_of_envelope = self._warned_of_unknown = False
        self._failures, self._timeouts = LogThrottle(), LogThrottle()
        self.in_on_error: dict[int, Request] = {}
        self.stopped = False
        self.run, self._asking = run, asking
        self.windows, self.streams, self._connections = windows, streams, connections
        self.departures = Departures(settings, in_flight, mailbox)
        self.coroutines = Coroutines(self, in_flight, mailbox, ledger, occupy)
        self._futures = Futures(self, in_flight, mailbox)
        forked.arm(self)

    # -- a handler has returned --------------------------------------------------------------------

    def finish(self, request: Request, result: Any) -> None:
        """HANDLER, OWNER. Do what the result asks for. Raises BadReply and what a generator
        raises."""
        me: Any = getcurrent()
        if result is None:
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

    def settle(self, request: Request, body: bytes | list[bytes] | None, fate: int) -> bool:
        """Claim the request and let its reply leave; False, and counted as late, if somebody else
        has settled it."""
        if self._in_flight.claim(request):
            self._put_last(request, body, fate)
            return True
        self._ledger.counts[LATE] += 1
        return False

    def _put_last(self, request: Request, body: bytes | list[bytes] | None, fate: int) -> None:
        """The mail that settles a request: behind the stream items that other threads have sent."""
        if self._mailbox.threadsafe:
            self._mailbox.drain_threadsafe()
        self._mailbox.put((request, body, fate))

    def body(self, request: Request, value: Any) -> bytes | list[bytes]:
        """ANY THREAD. The body of a reply, with a word about one that brings an envelope of its
        own."""
        body = body_of(value, self._name)
        if not self._warned_of_envelope and body.__class__ is list and body[0] == request.frames[0]:
            self._warned_of_envelope = True
            self._mailbox.put_threadsafe(
                partial(self.run, partial(log.warning, ENVELOPE_IN_BODY, self._name))
            )
        return body

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

    # -- a handler has failed ----------------------------------------------------------------------

    def fail(self, request: Request, error: BaseException, ends: bool = True) -> None:
        """HANDLER. An exception came out of the handler, or its result was none. One that asks a
        process to end does not ask this one where it came out of a future (``ends`` is False): a
        process of a pool got Ctrl-C, say."""
        if isinstance(error, Reject):
            try:
                self.settle(request, self.body(request, error.frames), REJECTED)
            except Exception as bad:
                self.fail(request, bad)
            return
        claimed = self._in_flight.claim(request)
        if claimed:
            if self.on_error is None:
                self._put_last(request, None, FAILED)
            else:
                self._ask_on_error(self.on_error, request, error, FAILED)
        elif isinstance(error, (HandlerTimeout, PeerGone, GreenletExit)):
            return  # the end of a greenlet whose request was settled by a deadline or a stop
        if ends and isinstance(error, (SystemExit, KeyboardInterrupt)):
            self._crash(error)
        if self._failures.worth_saying():
            log.error(
                "%s failed on %r: %s: %s%s",
                self._name,
                request,
                type(error).__name__,
                error,
                self._failures.others(),
                error=error,
            )

    def time_out(self, request: Request, seconds: float) -> None:
        """HUB. A request is past its deadline: its reply leaves first, whatever its handler does
        then."""
        holder = self._in_flight.holder(request)
        if not self._in_flight.claim(request):
            return
        error = HandlerTimeout(seconds)
        if self.on_error is None:
            self._put_last(request, None, TIMED_OUT)
        else:
            self._ask_on_error(self.on_error, request, error, TIMED_OUT)
        if holder is not None:
            # By way of the mailbox, behind the reply: nobody knows for how long the handler goes on
            # when it is thrown at.
            end = partial(self._loop.run_callback, end_handler, holder, request, error)
            if self.on_error is None:
                self._mailbox.put(end)
            else:
                self.run(partial(self._mailbox.put, end))
        if self._timeouts.worth_saying():
            self.run(
                partial(
                    log.warning,
                    "%s timed out on %r after %.3f s%s",
                    self._name,
                    request,
                    self.age(request),
                    self._timeouts.others(),
                )
            )

    def _ask_on_error(
        self, on_error: OnError, request: Request, error: BaseException, fate: int
    ) -> None:
        """Let on_error decide what the client gets. The request has been claimed."""
        self.in_on_error[id(request)] = request
        self._asking(
            request,
            partial(on_error.ask, request, error, partial(self._on_error_ended, request, fate)),
        )

    def _on_error_ended(
        self,
        request: Request,
        fate: int,
        body: bytes | list[bytes] | None,
        failure: BaseException | None,
    ) -> None:
        """HANDLER or HUB. on_error has returned, has failed, or was given up."""
        if failure is not None:
            self._mailbox.put((NO_ENVELOPE, None, CALLBACK_ERRORS))
        if self.in_on_error.pop(id(request), None) is not None:
            self._put_last(request, body, fate)

    def bug(self, error: BaseException) -> None:
        """An exception where there must be none: the server stops."""
        if not isinstance(error, GreenletExit):
            self._crash(error)

    def disarm(self) -> None:
        """In a forked child: nothing can be settled there, and what comes out of a handler ends the
        process."""
        self.stopped = True
        self._in_flight.open.clear()  # so not even bytes go the short way (handlers.py)
        vars(self).update(finish=self._came_back, fail=self._came_back, _put_last=self._came_back)

    def _came_back(self, request: Request, outcome: Any, *_: int) -> None:
        """HANDLER, in a forked child. Where a loop had called the handler, an exception would come
        out of the loop, too."""
        error = (
            outcome
            if isinstance(outcome, BaseException)
            else WrongProcess("what a handler returned", self._pid, os.getpid())
        )
        get_hub().handle_system_error(type(error), error)

    def abandon(self, waiting: list[Request]) -> None:
        """OWNER or HUB. Settle everything that is unsettled as abandoned; end the handlers that
        still run."""
        if self.on_error is not None:
            self.on_error.abandon()
        for request in [*waiting, *self.in_on_error.values()]:
            self._mailbox.put((request, None, ABANDONED))
        self.in_on_error.clear()
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
        self.stopped = True
        if self.on_error is not None:
            self.on_error.forget()
        self.in_on_error.clear()
        self._in_flight.open.clear()
        self.windows.open()
