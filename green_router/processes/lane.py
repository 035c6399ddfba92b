"""What one worker has in hand, as the serving process sees it.

Rules of this file
  1. A lane knows nothing of other lanes: who gets what is the dispatcher's business.
  2. It has a ledger: what the worker was given, and what became of it.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

from gevent.event import AsyncResult

from ..errors import HandlerTimeout
from ..messages.ledger import PEER_GONE, TIMED_OUT, Ledger
from ..messages.request import Request
from .line import Line, Message


class Parcel:
    """A request in the hands of a worker; the holder in the table of open requests.

    Attributes:
        tries: how many workers have been lost with it.
        parts: whether a part of its reply has left.
    """

    __slots__ = ("key", "lane", "parts", "request", "tries")

    def __init__(self, request: Request, lane: Lane, key: int, tries: int) -> None:
        self.request: Request | None = request
        self.lane, self.key, self.tries = lane, key, tries
        self.parts = False

    def throw(self, error: BaseException) -> None:
        """End its handler, as one throws into a greenlet. The request has been claimed."""
        self.lane.give_up(self.key, error.seconds if isinstance(error, HandlerTimeout) else None)


class Lane:
    """One worker, as the dispatcher sees it.

    Args:
        pid: of the worker's process.
        line: to it.
        limit: after how many requests ``worn`` is called, once; None for never.
        worn: ``worn()``.
    Attributes:
        parcels: what it has in hand, by key, oldest first.
        open: whether it gets new requests.
        ledger: what it was given, and what it made of it.
        emptied: called when it has nothing in hand any more, and is not open.
    """

    __slots__ = ("batch", "emptied", "explaining", "ledger", "limit", "line", "open", "parcels", "pid", "worn")

    def __init__(self, pid: int, line: Line, limit: int | None = None, worn: Callable[[], None] | None = None) -> None:
        self.pid, self.line, self.limit, self.worn = pid, line, limit, worn
        self.parcels: dict[int, Parcel] = {}
        self.batch: list[Message] = []
        self.explaining: dict[int, AsyncResult[Any]] = {}
        self.ledger = Ledger()
        self.open = True
        self.emptied: Callable[[], None] | None = None

    @property
    def busy(self) -> int:
        """How much it has in hand."""
        return len(self.parcels) + len(self.explaining)

    def give_up(self, key: int, seconds: float | None) -> None:
        """HUB. Somebody else has settled this request: its handler shall end."""
        if self.parcels.pop(key, None) is not None:
            self.ledger.counts[PEER_GONE if seconds is None else TIMED_OUT] += 1
            self.line.send([("end", key, seconds)])
            self.check_emptied()

    def check_emptied(self) -> None:
        """HUB. Say so when the last one has gone."""
        if not self.open and not self.busy and self.emptied is not None:
            emptied, self.emptied = self.emptied, None
            emptied()

    def snapshot(self) -> dict[str, Any]:
        """Its ledger, with what it has in hand."""
        return self.ledger.snapshot(waiting=0, in_flight=self.ledger.unsettled)


def held(parcel: Parcel) -> Request:
    """The request in it, of which there is one until it is claimed."""
    assert parcel.request is not None
    return parcel.request
