"""A worker as the serving process sees it: its requests, and its ledger.

Rules of this file
  1. A backend knows nothing of the others: who gets what is the dispatcher's business.
  2. It has a ledger: what the worker was given, and what became of it. ``received == sum(fates) +
     in_flight`` here too.
  3. A cancelled request counts against the window until the worker acknowledges it: until then
     nobody can tell whether its loop turns, and what is sent to it only piles up.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import HandlerTimeout, PeerGone
from ...messages.ledger import ABANDONED, PEER_GONE, TIMED_OUT, Ledger
from ...messages.request import Request
from ..channel import protocol
from ..channel.protocol import Message, Routes
from ..channel.stream import Channel


class Assignment:
    """A request in the hands of a worker; the holder in the table of open requests.

    Attributes:
        tries: how many workers have been lost with it.
        streamed: whether an item of its stream has left.
        failing: whether its handler has failed, and the worker's on_error is asked.
    """

    __slots__ = ("backend", "failing", "key", "request", "streamed", "tries")

    running = put_off = False

    def __init__(self, request: Request, backend: Backend, key: int, tries: int) -> None:
        self.request: Request | None = request
        self.backend, self.key, self.tries = backend, key, tries
        self.streamed = self.failing = False

    def throw(self, error: BaseException) -> None:
        """End its handler, as one throws into a greenlet. The request has been claimed."""
        if isinstance(error, HandlerTimeout):
            self.backend.give_up(self.key, TIMED_OUT, error.seconds)
        else:
            self.backend.give_up(self.key, PEER_GONE if isinstance(error, PeerGone) else ABANDONED)


class Backend:
    """One worker, as the dispatcher sees it.

    Args:
        pid: of the worker's process.
        channel: to it.
        routes: who takes what it says; the dispatcher adds itself.
        keep_active: called when something is sent to it.
        limit: after how many requests ``recycle`` is called, once; None for never.
        recycle: ``recycle()``, called then.
    Attributes:
        assignments: what it has in hand, by key, oldest first.
        ending: keys of requests that it was told to give up, and has not said that it did.
        on_error_calls: what its on_error is asked, by token (error_calls.py).
        batch: what is to be sent to it.
        open: whether it gets new requests.
        ledger: what it was given, and what it made of it.
    """

    __slots__ = (
        "_drained",
        "_keep_active",
        "_recycle",
        "assignments",
        "batch",
        "channel",
        "ending",
        "ledger",
        "limit",
        "on_error_calls",
        "open",
        "pid",
        "routes",
    )

    def __init__(
        self,
        pid: int,
        channel: Channel,
        routes: Routes,
        keep_active: Callable[[], None],
        limit: int | None,
        recycle: Callable[[], None],
    ) -> None:
        self.pid, self.channel, self.routes, self.limit = pid, channel, routes, limit
        self._keep_active, self._recycle = keep_active, recycle
        self.assignments: dict[int, Assignment] = {}
        self.ending: set[int] = set()
        self.on_error_calls: dict[int, Any] = {}
        self.batch: list[Message] = []
        self.ledger = Ledger()
        self.open = True
        self._drained: Callable[[], None] | None = None

    @property
    def busy(self) -> int:
        """How much it has in hand."""
        return len(self.assignments) + len(self.ending) + len(self.on_error_calls)

    def send(self, batch: list[Message]) -> None:
        """HUB. Tell the worker. Raises ValueError as ``Channel.send`` does."""
        self.channel.send(batch)
        self._keep_active()

    def give_up(self, key: int, fate: int, seconds: float | None = None) -> None:
        """HUB. Somebody else has settled this request: its handler shall end.

        Args:
            fate: of the request, for the ledger.
            seconds: the handler's timeout, if that is why.
        """
        if self.assignments.pop(key, None) is not None:
            self.ledger.counts[fate] += 1
            self.ending.add(key)
            self.send([protocol.end(key, seconds)])

    def has_done_its_share(self) -> None:
        """HUB. Say so, once."""
        self.limit = None
        self._recycle()

    def close(self) -> None:
        """HUB. Take no new requests."""
        self.open = False

    def tell_drained(self, drained: Callable[[], None]) -> None:
        """HUB. Call this when it is closed and has nothing in hand any more."""
        self._drained = drained

    def check_drained(self) -> None:
        """HUB. Say so when the last one has gone."""
        if not self.open and not self.busy and self._drained is not None:
            drained, self._drained = self._drained, None
            drained()

    def snapshot(self) -> dict[str, Any]:
        """Return its ledger, with what it has in hand."""
        return self.ledger.snapshot(waiting=0, in_flight=self.ledger.unsettled)
