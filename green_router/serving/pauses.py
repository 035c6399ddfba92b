"""Pauses between two questions to a handler that is not ready, from what was learned of earlier
ones.

Rules of this file
  1. A pause is a part of the time that the handler has taken so far: a small one at an age at which
     others became ready, a larger one elsewhere. It is a power of two of a millisecond.
  2. Nothing here waits or reads a clock: ages are arguments, in whole milliseconds.
"""

from __future__ import annotations

EXPECTED = 11, 0, 6
UNKNOWN = 5, 0, 6
UNEXPECTED = 5, 2, 6
TOLD = 3, 10, 16
"""Pauses: the part of the age (2 ** -11 of it), the shortest and the longest (2 ** 0 and 2 ** 6
ms). Where replies are expected, a reply is late by a millisecond, or by a thousandth of what it
took; where nothing was learned yet, by 3 %; at an age at which none of many replies was ready, by 4
ms at least: of those that take 20 to 50 ms the first 20 need few questions."""

ENOUGH = 64
MEMORY = 256
"""Replies from which on an age without any counts as one at which none is expected, and those that
are remembered."""


class Experience:
    """The ages at which replies became ready, roughly, and the pauses that follow from them.

    Ages are whole milliseconds, counted in eighths of an octave, those of late twice as much as
    those before.
    """

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * 256
        self._total = 0

    def learn(self, age: int) -> None:
        """Remember that a reply was ready at this age."""
        self._counts[_interval(age)] += 1
        self._total += 1
        if self._total >= MEMORY:
            self._counts = [count >> 1 for count in self._counts]
            self._total = sum(self._counts)

    def pause(self, age: int) -> tuple[int, int]:
        """Return how long to wait at this age until the next question.

        Returns:
            (pause, until): 2 to the power of ``pause``, in milliseconds, up to the age ``until``.
        """
        shift = max(age.bit_length() - 4, 0)
        end = (age >> shift) + 1 << shift
        pause = pause_at(age, *(UNKNOWN if self._total < ENOUGH else UNEXPECTED))
        if self._counts[_interval(age)] or self._counts[_interval(age + (1 << pause))]:
            return pause_at(age, *EXPECTED), end
        return pause, end - (1 << pause)  # then, whether one is expected in the next eighth


def _interval(age: int) -> int:
    """The eighth of an octave into which an age falls; from 2 ** 31 ms on, the last one."""
    shift = max(age.bit_length() - 4, 0)
    return min(8 * shift + (age >> shift), 255)


def pause_at(age: int, part: int, shortest: int, longest: int) -> int:
    """Return a pause at that age: 2 to its power, in milliseconds."""
    return min(max(age.bit_length() - 1 - part, shortest), longest)
