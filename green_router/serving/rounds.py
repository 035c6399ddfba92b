"""Requests that are asked one after the other, and when they are asked again.

Rules of this file
  1. Those with the same pause are a round: they are asked at the same times, at multiples of it.
  2. However many wait, the questions of a round take no more than their share of the time: half of
     it where replies are expected, an eighth elsewhere (pauses.py).
  3. Nothing here waits or reads a clock.
"""

from __future__ import annotations

from collections.abc import Iterable

from .pauses import REST
from .questions import Asked

PAUSE, KNOWN = 31, 5
"""A round's key: the pause in its lower five bits, and what is known of such ages above them
(pauses.py)."""

NEVER = 2**62
"""A tick that does not come."""


class Batch:
    """Requests that are asked one after the other.

    Attributes:
        left: those that were not asked yet, this time.
        began: when the first of them was; 0.0 before.
        spent: seconds that the questions took.
        steady: whether those that are not ready go on waiting where they do.
    """

    __slots__ = ("began", "left", "spent", "steady")

    def __init__(self, entries: Iterable[Asked] = ()) -> None:
        self.left, self.began, self.spent, self.steady = iter(list(entries)), 0.0, 0.0, False

    def over(self) -> None:
        """All were asked."""


class Round(Batch):
    """The requests that are asked at the same times: those with the same pause.

    Attributes:
        entries: those that wait; a question takes none out, unless its answer does.
        pause: ticks between two questions, 2 to this power.
        share: the time between two questions is at least as many times what they take (REST).
        due: the tick at which they are asked.
        until, version: what is known of their ages, holds before this tick, for all of them, and as
            long as nothing is learned (``Experience.version``).
    """

    __slots__ = ("due", "entries", "pause", "share", "until", "version")

    def __init__(self, key: int) -> None:
        super().__init__()
        self.entries: dict[Asked, None] = {}
        self.pause, self.share = key & PAUSE, REST[key >> KNOWN]
        self.due = self.until = self.version = 0

    def add(self, asked: Asked, tick: int, version: int) -> None:
        """Let one more wait, from this tick on."""
        if not self.entries:
            self.due = max((tick >> self.pause) + 1 << self.pause, self.due)
            self.until, self.version = NEVER, version
        self.entries[asked] = None
        asked.round = self

    def begin(self, version: int, tick: int) -> None:
        """Ask all of them, from now on; the version is that of what is known by now."""
        self.steady = tick < self.until and self.version == version
        if not self.steady:
            self.until, self.version = NEVER, version
        self.left = iter(list(self.entries))

    def over(self) -> None:
        """All were asked: say when next."""
        due = (int(1000 * self.began) >> self.pause) + 1 << self.pause
        self.due = max(due, int(1000 * (self.began + self.share * self.spent)))
        self.began = self.spent = 0.0
