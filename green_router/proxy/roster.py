"""The servers that work for a proxy, and how much each has in hand: pure, ``now`` is an argument.

Rules of this file
  1. A server gets no more than its window. What it has is what it has said, and what was sent to it
     since.
  2. Whoever has the smallest part of its window in hand gets the next request.
  3. One that is silent gets nothing until it speaks again. One that said goodbye gets nothing any
     more. One that has gone, or has been silent for long, is struck off, and what it had in hand is
     counted as lost: its clients get no reply.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush, heapreplace

SILENT_AFTER = 3.0
"""Seconds without a word after which a server gets no more. It says something each second; a
handler that blocks its loop keeps it from that."""

FORGOTTEN_AFTER = 60.0
"""Seconds without a word after which it is struck off. Its connection may have gone without a word
of TCP."""


@dataclass(eq=False, slots=True)
class Worker:
    """A server that has connected. ``key`` is its routing id here; ``version`` is that of its place
    in the order."""

    key: bytes
    epoch: int
    seen: float
    window: int = 0
    said: int = 0
    sent: int = 0
    taken: int = 0
    leaving: bool = False
    total: int = 0
    version: int = 0

    @property
    def in_hand(self) -> int:
        """How many requests it has, or will have when all that is on its way has come."""
        return self.said + max(0, self.sent - self.taken)


@dataclass
class Roster:
    """The servers of a proxy, by key. Attributes: lost, how many requests were in hand of those
    that are struck off.

    The order is a heap of (part of the window, number, version, worker). What has changed is
    entered again under another version, and the old place is skipped when it comes to the top: with
    a thousand servers, nobody is asked in vain.
    """

    workers: dict[bytes, Worker] = field(default_factory=dict)
    lost: int = 0
    _epochs: int = 0
    _order: list[tuple[float, int, int, Worker]] = field(default_factory=list)

    def greet(self, key: bytes, now: float) -> int:
        """Enter one that has spoken first; returns the epoch to greet it with. It gets nothing
        before it has answered."""
        self._epochs += 1
        self.workers[key] = Worker(key, self._epochs, now)
        return self._epochs

    def hear(
        self, key: bytes, epoch: int, taken: int, in_hand: int, window: int, now: float
    ) -> None:
        """Note how much a known server says it has. What it says of another epoch only shows that
        it lives."""
        worker = self.workers[key]
        worker.seen = now
        if epoch == worker.epoch:
            worker.taken, worker.said, worker.window = taken, in_hand, window
            worker.version += 1
            in_hand = worker.in_hand
            if in_hand < window:
                heappush(self._order, (in_hand / window, worker.epoch, worker.version, worker))
            if len(self._order) > 4 * len(self.workers) + 64:
                self._order = [place for place in self._order if place[2] == place[3].version]
                heapify(self._order)

    def next(self, now: float) -> Worker | None:
        """Return the server that gets the next request; None if nobody has room. What became of it,
        ``give`` is told."""
        order = self._order
        while order:
            _, _, version, worker = order[0]
            if (
                version == worker.version
                and worker.in_hand < worker.window
                and not worker.leaving
                and now - worker.seen < SILENT_AFTER
                and self.workers.get(worker.key) is worker
            ):
                return worker
            heappop(order)  # it is entered again when it speaks
        return None

    def give(self, worker: Worker) -> None:
        """The one that ``next`` has named has got it."""
        worker.sent += 1
        worker.total += 1
        heapreplace(
            self._order, (worker.in_hand / worker.window, worker.epoch, worker.version, worker)
        )

    def strike(self, key: bytes) -> int:
        """One has gone; returns how many requests it had in hand."""
        worker = self.workers.pop(key)
        self.lost += worker.in_hand
        return worker.in_hand

    def quiet(self, seconds: float, now: float) -> list[Worker]:
        """Return the servers that have not spoken for so long."""
        return [worker for worker in self.workers.values() if now - worker.seen >= seconds]

    @property
    def in_hand(self) -> int:
        """Return how many requests all of them have."""
        return sum(worker.in_hand for worker in self.workers.values())
