"""Requests that are asked one after the other, and when they are asked again.

Rules of this file
  1. Those with the same pause are a round: they are asked at the same times, at multiples of it.
  2. However many wait, the questions of a round take no more than their share of the time: half of
     it where replies are expected, an eighth elsewhere (pauses.py). A round of very many is asked
     in pieces, a slice of time each (turns.py), and rests behind each: replies leave between them,
     and the first of many that is ready at an age of which nothing was known is found by a piece,
     before the round is over.
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
        began: when the first of these was asked, since it has rested; 0.0 before.
        steady: whether those that are not ready go on waiting where they do.
    """

    __slots__ = ("began", "left")

    steady = False

    def __init__(self, entries: Iterable[Asked] = ()) -> None:
        self.left, self.began = iter(list(entries)), 0.0

    def rest(self, now: float, over: bool) -> bool:
        """Return whether those that are left are asked later: a piece of them was asked, or all,
        and then it is ``over``."""
        return over


class Round(Batch):
    """The requests that are asked at the same times: those with the same pause.

    Attributes:
        entries: those that wait; a question takes none out, unless its answer does.
        pause: ticks between two questions, 2 to this power.
        share: the time between two questions is at least as many times what they take (REST).
        due: the tick at which they are asked, or go on being asked.
        until, version: they belong here before this tick, all of them, and as long as nothing is
            learned (``Experience.version``).
    """

    __slots__ = ("_begun", "due", "entries", "pause", "share", "until", "version")

    steady = True

    def __init__(self, key: int) -> None:
        super().__init__()
        self.entries: dict[Asked, None] = {}
        self.pause, self.share = key & PAUSE, REST[key >> KNOWN]
        self.due = self.until = self.version = 0
        self._begun: int | None = None

    def add(self, asked: Asked, tick: int, version: int) -> None:
        """Let one more wait, from this tick on."""
        if not self.entries:
            self.due = max(self._after(tick), self.due)
            self.until, self.version = NEVER, version
            self._begun = None
        self.entries[asked] = None
        asked.round = self

    def begin(self, tick: int) -> None:
        """Ask all of them from now on, or go on with those that are left."""
        if self._begun is None:
            self._begun = tick
            self.left = iter(list(self.entries))

    def rest(self, now: float, over: bool) -> bool:
        """Say when they are asked next, or those that are left."""
        due = int(1000 * (self.began + self.share * (now - self.began)))
        if over and self._begun is not None:
            due, self._begun = max(self._after(self._begun), due), None
        self.due, self.began = due, 0.0
        return True

    def _after(self, tick: int) -> int:
        """The next multiple of the pause."""
        return (tick >> self.pause) + 1 << self.pause
