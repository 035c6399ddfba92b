"""The handler greenlets of a worker process, behind a channel instead of a ROUTER.

Rules of this file
  1. Handlers, results, mailbox and requests are the ordinary ones (serving/): what a handler may do
     in one process it may do here. Only at the end of the mailbox there is a channel to the
     dispatcher (dispatcher.py, which says what is spoken on it) in the place of the owner.
  2. Nothing is counted here but late results, and those are told to the serving process, which
     counts.
  3. There are no deadlines of handlers here: the serving process keeps them and says which request
     to give up. Those of on_error are here: when it begins, and whether it is at work, only the
     worker knows.
  4. A request carries the key by which the serving process knows it, and goes with the last
     reference to it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import GreenletExit

from ...errors import HandlerTimeout
from ...hub.guarded import guarded
from ...hub.log import Log, words
from ...messages.in_flight import InFlight
from ...messages.ledger import (
    LATE,
    LOST_PUSHES,
    LOST_STREAM_ITEMS,
    NO_REPLY,
    PUSHES,
    STREAM_ITEMS,
    Ledger,
)
from ...messages.request import BytesLike, Request
from ...serving.current import SERVERS
from ...serving.deadlines import Deadlines
from ...serving.failures import Failures
from ...serving.greenlets import end_handler
from ...serving.handlers import Handlers
from ...serving.loop_monitor import LoopMonitor
from ...serving.mailbox import Mailbox
from ...serving.on_disconnect import OnDisconnect
from ...serving.reply_envelope import AddressedPush
from ...serving.results import Results
from ...serving.settling import Settling
from ...serving.shutdown import end_handlers
from ...serving.streams import Streams
from ...serving.turns import Turns
from ...serving.windows import Windows
from ...settings import Settings
from ...sockets.tuning import keep_freed_memory
from ..channel import protocol
from ..channel.encoding import Known, properties, restored
from ..channel.protocol import Message, Routes, event, pair, push
from ..channel.stream import Channel
from .authorizers import Authorizers

log = Log("handlers")

BATCH = 256
"""Messages in a batch at the most: so many are held back while they are gathered."""


class Assigned(Request):
    """A request in a worker. Attributes: key, the serving process's name for it."""

    __slots__ = ("key",)

    key: int


class AssignedInFlight(InFlight):
    """A table that knows the key of a request which nobody can answer any more."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        super().__init__()
        self.dropped: deque[int] = deque()

    def defer(self, request: Request, dropped: Callable[[], None]) -> None:
        super().defer(request, partial(self._note, request.key, dropped))  # type: ignore[attr-defined]

    def _note(self, key: int, dropped: Callable[[], None]) -> None:
        """ANY THREAD. The key first: ``dropped`` puts the mail that makes the worker look for
        it."""
        self.dropped.append(key)
        dropped()

    def find(self, key: int) -> Request | None:
        """The open request of that key, or None."""
        for own_key in list(self.open):
            request = self._request(own_key)
            if request is not None and request.key == key:  # type: ignore[attr-defined]
                return request
        return None


class FrontWorker:
    """Runs a handler for the requests that come over a channel. Made in the serving thread of a
    worker.

    Args:
        handler: the user's callable.
        name: of it, for messages.
        settings: of the server.
        channel: to the serving process.
        crashed: called with an error that ends the process.
    """

    def __init__(
        self,
        handler: Callable[[Request], Any],
        name: str,
        settings: Settings,
        channel: Channel,
        crashed: Callable[[BaseException], None],
    ) -> None:
        keep_freed_memory()
        self._channel = channel
        self._ledger = Ledger()
        self._mailbox = mailbox = Mailbox(crashed)
        self._in_flight = in_flight = AssignedInFlight()
        owner, inbox = gevent.Greenlet(guarded(self._run, crashed)), deque[Request]()

        # The one circle: what comes of a request may be a task for the handlers, which are made
        # below, of what judges their results.
        def run(task: Callable[[], None]) -> None:
            self._handlers.run(task)

        def occupy(change: int) -> None:
            self._handlers.occupy(change)

        settling = Settling(name, in_flight, mailbox, self._ledger, run)
        self._failures = failures = Failures(
            name, settings, settling, in_flight, mailbox, crashed, run, asking=self._tell_failing
        )
        self._results = results = Results(
            name,
            settings,
            settling,
            failures,
            in_flight,
            mailbox,
            self._ledger,
            run,
            occupy,
            Windows(settings, mailbox, self._when_clear, owner),
            Streams(),
            connections=None,
        )
        self._deadlines = Deadlines(None, in_flight, inbox, failures.time_out, crashed)
        self._handlers = Handlers(
            handler,
            settings.concurrency,
            inbox,
            in_flight,
            results,
            failures,
            mailbox,
            self._deadlines,
            Turns(),
        )
        self._loop = get_hub().loop
        self._batch: list[Message] = []
        self._tokens = count()
        self._clear: dict[int, Callable[[], None]] = {}
        self._name, self._crashed, self._quiet = name, crashed, Event()
        self._loop_monitor = LoopMonitor.of(settings, in_flight, self._busy, name, mailbox.thread)
        self._on_disconnect = OnDisconnect.of(settings, mailbox, self._handlers.run, crashed)
        owner.start()
        self.routes = (
            protocol.end.to(self._end),
            protocol.call_on_error.to(self._call_on_error),
            protocol.clear.to(self._window_clear),
            protocol.peer_gone.to(self._peer_gone),
            protocol.disconnected.to(self._disconnected),
            Authorizers(settings, self._handlers.run, self._say_soon).route,
        )
        SERVERS.enter(self)

    def send(self, routing_id: bytes, *frames: BytesLike) -> None:
        """Push a message to a client of the service, as ``Server.send`` does. **Thread-safe.**"""
        self._results.send(routing_id, frames)

    # -- from the serving process ------------------------------------------------------------------

    def receive(self, routes: Routes, batch: list[Message]) -> None:
        """HUB. Take in what the serving process says; ``routes`` has what is no request."""
        inbox, results = self._handlers.inbox, self._results
        for message in batch:
            if message[0].__class__ is int:
                key, envelope_length, received_at, frames, address, known = message
                origin = {"Peer-Address": address} if known is None else properties(address, known)
                request = Assigned(frames, envelope_length, received_at, origin, results)
                request.key = key
                inbox.append(request)
            else:
                routes.take(message)
        if inbox:
            if self._loop_monitor is not None and self._loop_monitor.asleep:
                self._loop_monitor.wake()
            self._handlers.relay()

    def _busy(self) -> bool:
        return bool(self._handlers.inbox or len(self._in_flight))

    def _call_on_error(
        self,
        token: int,
        error: tuple[str, tuple[Any, ...]],
        envelope_length: int,
        received_at: float,
        frames: list[bytes],
        address: str | None,
        known: Known,
    ) -> None:
        """HUB. The serving process asks what a client gets."""
        request = Request(
            frames, envelope_length, received_at, properties(address, known), self._results
        )
        assert self._failures.on_error is not None
        self._failures.on_error.ask(request, restored(error), partial(self._on_error_ended, token))

    def _say_soon(self, message: Message) -> None:
        """HANDLER. In its turn."""
        self._mailbox.put(partial(self._batch.append, message))

    def _window_clear(self, token: int) -> None:
        self._clear.pop(token)()

    def _peer_gone(self, key: int) -> None:
        """HUB. The client that asked this is gone: it is settled here, unless its handler runs, or
        has returned."""
        departures = self._results.departures
        request = next((waiting for waiting in self._handlers.inbox if waiting.key == key), None)  # type: ignore[attr-defined]
        if request is not None:
            self._handlers.inbox.remove(request)
            departures.drop(request)
        elif (request := self._in_flight.find(key)) is not None:
            departures.settle(request)

    def _disconnected(self, routing_id: bytes) -> None:
        """HUB. A client is gone."""
        assert self._on_disconnect is not None
        self._on_disconnect(routing_id)

    def _end(self, key: int, seconds: float | None) -> None:
        """HUB. The serving process has settled this request: end its handler, or let it not begin;
        and say so."""
        error = GreenletExit() if seconds is None else HandlerTimeout(seconds)
        self._mailbox.put(partial(self._batch.append, protocol.ended(key)))
        for index, request in enumerate(self._handlers.inbox):
            if request.key == key:  # type: ignore[attr-defined]
                del self._handlers.inbox[index]
                return
        open_request = self._in_flight.find(key)
        if open_request is not None:
            holder: Any = self._in_flight.holder(open_request)
            self._in_flight.claim(open_request)
            if holder is not None:
                self._loop.run_callback(end_handler, holder, open_request, error)

    def _on_error_ended(
        self, token: int, body: bytes | list[bytes] | None, failure: BaseException | None
    ) -> None:
        """HANDLER or HUB. Tell what a client gets: on_error has said it, has failed, or was given
        up."""
        answer = body if failure is None else f"{type(failure).__name__}: {words(failure)}"
        self._mailbox.put(
            partial(self._batch.append, protocol.on_error_ended(token, failure is None, answer))
        )

    def _tell_failing(self, request: Request, ask: Callable[[], None]) -> None:
        """HANDLER or OWNER. Tell the serving process that a handler has failed, and only then ask
        on_error.

        What it is told ends its deadline for this request; and where on_error takes the worker
        along, it knows that the handler has run, and must not run again. So that is on its way
        before on_error begins: the owner sends all that is in the mailbox before the hub runs this
        callback.
        """
        if isinstance(request, Assigned):
            self._mailbox.put(partial(self._batch.append, protocol.failing(request.key)))
        self._mailbox.put(partial(self._loop.run_callback, guarded(ask, self._crashed)))

    def stats(self) -> None:
        """Nothing: the serving process counts."""

    def end(self, seconds: float | None) -> None:
        """Let handlers that are at work after their replies finish, within that time; None for
        none. **Blocks**."""
        if not self._handlers.quiet(self._quiet.set):
            self._quiet.wait(seconds or 0.0)
        end_handlers(self._name, self._handlers.at_work())
        self._results.coroutines.close()
        gevent.sleep(0)  # that is logged, before the process ends

    def hurry(self, seconds: float) -> None:
        """HUB. End within that time."""
        gevent.spawn(self._hurry, seconds)

    def _hurry(self, seconds: float) -> None:
        if not self._quiet.wait(seconds):
            self._quiet.set()

    # -- to it -------------------------------------------------------------------------------------

    def _run(self) -> None:
        """Say what is in the mailbox, in batches, for ever."""
        get, empty, dropped, counts = (
            self._mailbox.get,
            self._mailbox.empty,
            self._in_flight.dropped,
            self._ledger.counts,
        )
        while True:
            batch = self._batch
            mail = get()
            while True:
                if mail.__class__ is tuple:
                    request, body, fate = mail
                    if request.__class__ is Assigned:
                        batch.append((request.key, fate, body))
                    elif fate == PUSHES:
                        batch.append(
                            (pair if request.__class__ is AddressedPush else push)(
                                request.frames, body
                            )
                        )
                    elif fate == NO_REPLY:
                        batch.append((dropped.popleft(), fate, None))
                    else:
                        batch.append(event(fate, 1))
                else:
                    try:
                        mail()
                    except BaseException as error:
                        self._crashed(error)
                if len(batch) >= BATCH or empty():
                    break
                mail = get()
            request = body = mail = None  # the last reference to a request must not be here
            if counts[LATE]:
                batch.append(event(LATE, counts[LATE]))
                counts[LATE] = 0
            self._flush()

    def _flush(self) -> None:
        batch = self._batch
        if not batch:
            return
        try:
            self._channel.send(batch)
        except (ValueError, MemoryError):
            for message in batch:
                self._send_alone(message)
        batch.clear()

    def _send_alone(self, message: Message) -> None:
        """One of a batch cannot be written: it is lost, the others are not."""
        try:
            self._channel.send([message])
        except (ValueError, MemoryError) as error:
            reason = "a frame is too large for the channel to the serving process"
            if isinstance(error, MemoryError):
                reason = "there is no memory to send it to the serving process"
            match message:
                case (int() as key, int() as fate, _) if fate != STREAM_ITEMS:
                    instead = protocol.unsendable(key, reason)
                case (protocol.on_error_ended.name, token, _, _):
                    instead = protocol.on_error_ended(token, False, reason)
                case (protocol.push.name | protocol.pair.name, _, _):
                    instead = event(LOST_PUSHES, 1)
                case _:
                    instead = event(LOST_STREAM_ITEMS, 1)
            self._channel.send([instead])
            log.error("%s: a message is lost", reason)

    def _when_clear(self, peer: bytes, callback: Callable[[], None]) -> None:
        """OWNER: ask the owner, behind the stream items that were put before."""
        token = next(self._tokens)
        self._clear[token] = callback
        self._batch.append(protocol.when_clear(token, peer))
