"""The handler greenlets of a worker process, behind a channel instead of a ROUTER.

Rules of this file
  1. Handlers, results, mailbox and requests are the ordinary ones (serving/): what a handler may do
     in one process it may do here. Only at the end of the mailbox there is a channel to the
     dispatcher (sender.py) in the place of the owner.
  2. Nothing is counted here: the serving process counts.
  3. There are no deadlines of handlers here: the serving process keeps them and says which request
     to give up. Those of on_error are here: when it begins, and whether it is at work, only the
     worker knows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import GreenletExit

from ...errors import HandlerTimeout
from ...hub.guarded import guarded
from ...hub.log import Log, words
from ...messages.ledger import Ledger
from ...messages.request import BytesLike, Request
from ...serving.current import SERVERS
from ...serving.greenlets import end_handler
from ...serving.loop_monitor import LoopMonitor
from ...serving.mailbox import Mailbox
from ...serving.on_disconnect import OnDisconnect
from ...serving.parts import handlers_here
from ...serving.shutdown import end_handlers
from ...serving.streams import Streams
from ...serving.windows import Windows
from ...serving.wiring import make_core
from ...settings import Settings
from ...sockets.tuning import keep_freed_memory
from ..channel import protocol
from ..channel.encoding import Known, properties, restored
from ..channel.protocol import Message, Routes
from ..channel.stream import Channel
from .authorizers import Authorizers
from .keyed import KeyedInFlight, KeyedRequest
from .sender import Sender

ON_ERROR_WITHIN = 1.0
"""Seconds that on_error has, when the worker ends, to say what clients get whose handlers have
failed: one of these may be what ends it."""

log = Log("handlers")


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
        ledger = Ledger()
        self._mailbox = mailbox = Mailbox(crashed)
        self._in_flight = in_flight = KeyedInFlight()
        self._sender = sender = Sender(channel, mailbox, in_flight.dropped, ledger, crashed)

        core, self._handlers = make_core(
            handler,
            name,
            settings,
            in_flight,
            mailbox,
            ledger,
            crashed,
            Windows(settings, mailbox, sender.when_clear, sender.greenlet),
            Streams(),
            None,
            handlers_here,
            seconds=None,
            asking=self._tell_failing,
        )
        self._results, self._failures = core.results, core.failures
        self._loop = get_hub().loop
        self._name, self._crashed, self._quiet = name, crashed, Event()
        self._loop_monitor = LoopMonitor.of(settings, in_flight, self._busy, name, mailbox.thread)
        self._on_disconnect = OnDisconnect.of(settings, mailbox, self._handlers.run, crashed)
        sender.greenlet.start()
        self.routes = (
            protocol.end.to(self._end),
            protocol.call_on_error.to(self._call_on_error),
            sender.route,
            protocol.peer_gone.to(self._peer_gone),
            protocol.disconnected.to(self._disconnected),
            Authorizers(settings, self._handlers.run, sender.say).route,
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
                request = KeyedRequest(frames, envelope_length, received_at, origin, results)
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
        self._sender.say(protocol.ended(key))
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
        self._sender.say(protocol.on_error_ended(token, failure is None, answer))

    def _tell_failing(self, request: Request, ask: Callable[[], None]) -> None:
        """HANDLER or OWNER. Tell the serving process that a handler has failed, and only then ask
        on_error.

        What it is told ends its deadline for this request; and where on_error takes the worker
        along, it knows that the handler has run, and must not run again. So that is on its way
        before on_error begins: the owner sends all that is in the mailbox before the hub runs this
        callback.
        """
        if isinstance(request, KeyedRequest):
            self._sender.say(protocol.failing(request.key))
        self._mailbox.put(partial(self._loop.run_callback, guarded(ask, self._crashed)))

    def stats(self) -> None:
        """Nothing: the serving process counts."""

    def end(self, seconds: float | None) -> None:
        """Let handlers that are at work after their replies finish, within that time; None for
        none. **Blocks**."""
        until = monotonic() + ON_ERROR_WITHIN
        while self._failures.in_on_error and monotonic() < until:
            gevent.sleep(0.001)
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
