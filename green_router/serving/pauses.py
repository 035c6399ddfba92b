"""Pauses between two questions to a handler that is not ready, from what was learned of earlier
ones.

Rules of this file
  1. A pause is a part of the time that the handler has taken so far: a small one at an age at which
     others became ready, a larger one elsewhere. It is a power of two of a millisecond.
  2. Nothing here waits or reads a clock: ages are arguments, in whole milliseconds.
"""

from __future__ import annotations

EXPECTED, UNKNOWN, UNEXPECTED = range(3)
"""What is known of an age: replies became ready at it; nothing, because there were few or all of
them came earlier; or none of many did, some of which came later."""

PAUSES = (11, 0, 6), (8, 0, 6), (5, 2, 6)
TOLD = 3, 10, 16
"""Pauses: the part of the age (2 ** -11 of it), the shortest and the longest (2 ** 0 and 2 ** 6
ms). Where replies are expected, a reply is late by a millisecond, or by a thousandth of what it
took; where nothing is known, by 0.4 %; at an age at which none of many replies was ready, by 4 ms
at least: of those that take 20 to 50 ms the first 20 need few questions."""

REST = 2.0, 8.0, 8.0
"""Times as long as the questions of a round take, the next ones are asked: half of the time is
theirs where replies are expected, an eighth elsewhere. The loop takes all of it."""

ENOUGH = 64
MEMORY = 256
"""Replies from which on an age without any counts as one at which none is expected, and those that
are remembered."""

INTERVALS = 256


class Experience:
    """The ages at which replies became ready, roughly, and the pauses that follow from them.

    Ages are whole milliseconds, counted in eighths of an octave, those of late twice as much as
    those before.

    Attributes:
        version: how often the pauses have changed: what ``pause`` has said holds for one of these.
    """

    __slots__ = ("_counts", "_pauses", "_total", "version")

    def __init__(self) -> None:
        self._counts = [0] * INTERVALS
        self._pauses = [(0, 0)] * INTERVALS
        self._total = self.version = 0
        self._conclude()

    def learn(self, age: int) -> None:
        """Remember that a reply was ready at this age."""
        interval = _interval(age)
        self._counts[interval] += 1
        self._total += 1
        if self._counts[interval] == 1 or self._total == ENOUGH:
            self._conclude()
        elif self._total >= MEMORY:
            self._counts = [count >> 1 for count in self._counts]
            self._total = sum(self._counts)
            self._conclude()

    def _conclude(self) -> None:
        """Work out the pause of each interval: those beside one at which replies came count as
        that, so that none begins in a long pause, and the next ones are found soon where times
        vary."""
        pauses = list(self._pauses)
        counts = [0, *self._counts, 0]  # the interval's own stands one behind
        until, key_before = _first_age(INTERVALS), -1
        otherwise = UNKNOWN
        for interval in range(INTERVALS - 1, -1, -1):
            count = counts[interval + 1]
            known = EXPECTED if any(counts[interval : interval + 3]) else otherwise
            if count and self._total >= ENOUGH:
                otherwise = UNEXPECTED
            key = pause_at(_first_age(interval), *PAUSES[known]) | known << 5
            if key != key_before:
                until, key_before = _first_age(interval + 1), key
            pauses[interval] = key, until
        if pauses != self._pauses:
            self._pauses = pauses
            self.version += 1

    def pause(self, age: int) -> tuple[int, int]:
        """Return how long to wait at this age until the next question.

        Returns:
            (key, until): ``key & 31`` is the pause, 2 to its power in milliseconds, and
            ``key >> 5`` what is known of the age (the index for REST), up to the age ``until``.
        """
        return self._pauses[_interval(age)]


def _first_age(interval: int) -> int:
    """Return the first age of an interval."""
    return interval if interval < 16 else (8 + (interval & 7)) << (interval >> 3) - 1


def _interval(age: int) -> int:
    """The eighth of an octave into which an age falls; from 2 ** 31 ms on, the last one."""
    shift = max(age.bit_length() - 4, 0)
    return min(8 * shift + (age >> shift), INTERVALS - 1)


def pause_at(age: int, part: int, shortest: int, longest: int) -> int:
    """Return a pause at that age: 2 to its power, in milliseconds."""
    return min(max(age.bit_length() - 1 - part, shortest), longest)
