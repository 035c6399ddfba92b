"""The fates of all messages: one each, counted.

Rules of this file
  1. Only this file says which fates there are; only the owner counts them, so that one thread does.
  2. ``received == sum(fates) + in_flight + waiting`` at all times: a message is waiting for a
     handler, in flight (a handler has it, or its reply has not left), or has exactly one fate.
  3. A snapshot is plain data; snapshots of several processes add up.

The counts are a plain list and the indices are plain integers, because the owner counts once for
every reply: an attribute of an Enum costs more than all of the rest of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import zip_longest
from typing import Any

FATES = (
    "answered",
    "no_reply",
    "failed",
    "timed_out",
    "rejected",
    "refused",
    "malformed",
    "peer_gone",
    "peer_stalled",
    "abandoned",
)
(
    ANSWERED,
    NO_REPLY,
    FAILED,
    TIMED_OUT,
    REJECTED,
    REFUSED,
    MALFORMED,
    PEER_GONE,
    PEER_STALLED,
    ABANDONED,
) = range(len(FATES))

EVENTS = (
    "stream_items",
    "pushes",
    "late",
    "lost_stream_items",
    "lost_pushes",
    "callback_errors",
    "parked",
    "lost",
    "retried",
    "disconnected_busy",
)
(
    STREAM_ITEMS,
    PUSHES,
    LATE,
    LOST_STREAM_ITEMS,
    LOST_PUSHES,
    CALLBACK_ERRORS,
    PARKED,
    LOST,
    RETRIED,
    DISCONNECTED_BUSY,
) = range(len(FATES), len(FATES) + len(EVENTS))
"""Things that are counted but are no fate: items of streams and pushes that left, results that came
too late, items and pushes whose peer was gone or stalled, on_error callables that raised, replies
that could not leave at the first try and were parked; requests that a worker process had in hand
when it ended, and those of them that were given to another one; clients that went while requests of
theirs were open. They follow the fates in the same list."""

BUCKETS = 64
"""Latency buckets: the upper bound of bucket i is 2**i microseconds. 64 hold every time there is,
so that the owner need not ask whether one fits."""


class Ledger:
    """Fates, events, and a histogram of how long replies took.

    Attributes:
        received: messages taken from the socket.
        counts: how often, by the index of a fate or an event.
        latencies: how many replies left after less than 2**i microseconds and not less than
            2**(i-1), by i.
    """

    __slots__ = ("counts", "latencies", "received")

    def __init__(self) -> None:
        self.received = 0
        self.counts = [0] * (len(FATES) + len(EVENTS))
        self.latencies = [0] * BUCKETS

    @property
    def settled(self) -> int:
        """How many messages have their fate."""
        return sum(self.counts[: len(FATES)])

    @property
    def unsettled(self) -> int:
        """How many messages have been received and have no fate yet."""
        return self.received - self.settled

    def observe(self, seconds: float) -> None:
        """Note that a reply left that long after its request was received."""
        self.latencies[int(seconds * 1e6).bit_length()] += 1

    def snapshot(self, **gauges: float | Mapping[str, int]) -> dict[str, Any]:
        """Return everything as plain data.

        Args:
            gauges: what is counted elsewhere and read now: waiting, in_flight, parked, ...
        Returns:
            ``{"received": n, "fates": {name: n}, "events": {name: n}, "latency": [n, ...],
            **gauges}``.
        """
        return {
            "received": self.received,
            "fates": dict(zip(FATES, self.counts, strict=False)),
            "events": dict(zip(EVENTS, self.counts[len(FATES) :], strict=True)),
            "latency": list(self.latencies),
            **gauges,
        }


def merge(snapshots: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Add snapshots up, number by number: of several processes, or of a worker and those before it.

    Args:
        snapshots: at least none; plain data of the shape that ``Ledger.snapshot`` returns.
    Returns:
        One snapshot of that shape.
    """
    total: dict[str, Any] = Ledger().snapshot()
    for snapshot in snapshots:
        total = _add(total, snapshot)
    return total


def _add(left: Any, right: Any) -> Any:
    if isinstance(left, Mapping) or isinstance(right, Mapping):
        left, right = left or {}, right or {}
        return {key: _add(left.get(key), right.get(key)) for key in {**left, **right}}
    if isinstance(left, list) or isinstance(right, list):
        return [a + b for a, b in zip_longest(left or [], right or [], fillvalue=0)]
    return (left or 0) + (right or 0)


def quantile(latency: list[int], share: float) -> float:
    """The time within which that share of the replies left, in seconds: the upper bound of its
    bucket, 0.0 for none.

    Args:
        latency: a histogram as in a snapshot.
        share: from 0.0 to 1.0; 0.99 for p99.
    """
    wanted = share * sum(latency)
    seen = 0
    for power, count in enumerate(latency):
        seen += count
        if count and seen >= wanted:
            return float(2**power) / 1e6
    return 0.0
