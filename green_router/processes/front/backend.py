"""What one worker has in hand, as the serving process sees it.

Rules of this file
  1. A lane knows nothing of other lanes: who gets what is the dispatcher's business.
  2. It has a ledger: what the worker was given, and what became of it. ``received == sum(fates) + in_flight`` here too.
  3. A request that somebody else has settled keeps its place until the worker has said that it knows: until then nobody
     can tell whether its loop turns, and what is sent to it only piles up.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import HandlerTimeout
from ...messages.ledger import ABANDONED, TIMED_OUT, Ledger
from ...messages.request import Request
from ..channel.stream import Line, Message


class Parcel:
    """A request in the hands of a worker; the holder in the table of open requests.

    Attributes:
        tries: how many workers have been lost with it.
        parts: whether a part of its reply has left.
        failing: whether its handler has failed, and the worker's on_error is asked.
    """

    __slots__ = ("failing", "key", "lane", "parts", "request", "tries")

    running = False

    def __init__(self, request: Request, lane: Lane, key: int, tries: int) -> None:
        self.request: Request | None = request
        self.lane, self.key, self.tries = lane, key, tries
        self.parts = self.failing = False

    def throw(self, error: BaseException) -> None:
        """End its handler, as one throws into a greenlet. The request has been claimed."""
        if isinstance(error, HandlerTimeout):
            self.lane.give_up(self.key, TIMED_OUT, error.seconds)
        else:
            self.lane.give_up(self.key, ABANDONED)


class Lane:
    """One worker, as the dispatcher sees it.

    Args:
        pid: of the worker's process.
        line: to it.
        stir: called when something is sent to it.
        limit: after how many requests ``worn`` is called, once; None for never.
        worn: ``worn()``.
    Attributes:
        parcels: what it has in hand, by key, oldest first.
        ending: keys of requests that it was told to give up, and has not said that it did.
        questions: what its on_error is asked, by token (error_calls.py).
        batch: what is to be sent to it.
        open: whether it gets new requests.
        ledger: what it was given, and what it made of it.
        emptied: called when it has nothing in hand any more, and is not open.
        hear: ``hear(batch)``, do what it says, and return the messages that are not about work; set by the dispatcher.
    """

    __slots__ = ("batch", "emptied", "ending", "hear", "ledger", "limit", "line", "open", "parcels", "pid", "questions", "stir",
                 "worn")

    def __init__(self, pid: int, line: Line, stir: Callable[[], None], limit: int | None = None,
                 worn: Callable[[], None] | None = None) -> None:
        self.pid, self.line, self.stir, self.limit, self.worn = pid, line, stir, limit, worn
        self.parcels: dict[int, Parcel] = {}
        self.ending: set[int] = set()
        self.questions: dict[int, Any] = {}
        self.batch: list[Message] = []
        self.ledger = Ledger()
        self.open = True
        self.emptied: Callable[[], None] | None = None
        self.hear: Callable[[list[Message]], list[Message]]

    @property
    def busy(self) -> int:
        """How much it has in hand."""
        return len(self.parcels) + len(self.ending) + len(self.questions)

    def send(self, batch: list[Message]) -> None:
        """HUB. Tell the worker. Raises ValueError as ``Line.send`` does."""
        self.line.send(batch)
        self.stir()

    def give_up(self, key: int, fate: int, seconds: float | None = None) -> None:
        """HUB. Somebody else has settled this request: its handler shall end.

        Args:
            fate: of the request, for the ledger.
            seconds: the handler's timeout, if that is why.
        """
        if self.parcels.pop(key, None) is not None:
            self.ledger.counts[fate] += 1
            self.ending.add(key)
            self.send([("end", key, seconds)])

    def check_emptied(self) -> None:
        """HUB. Say so when the last one has gone."""
        if not self.open and not self.busy and self.emptied is not None:
            emptied, self.emptied = self.emptied, None
            emptied()

    def snapshot(self) -> dict[str, Any]:
        """Its ledger, with what it has in hand."""
        return self.ledger.snapshot(waiting=0, in_flight=self.ledger.unsettled)
