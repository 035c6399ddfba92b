"""Rate-limits log lines about frequent events.

Rules of this file
  1. Each of them is counted elsewhere; here is only decided whether a line is written. Nothing is
     logged here.
  2. At most ten lines a second, and one a second about the same culprit, where there is one. How
     many more there were is said with the next line.
"""

from __future__ import annotations

from collections.abc import Hashable
from time import monotonic

LINES_PER_SECOND = 10


class LogThrottle:
    """Decides what is worth a line. One for each kind of thing."""

    __slots__ = ("_lines", "_second", "_silent", "_told")

    def __init__(self) -> None:
        self._second = -1
        self._lines = 0
        self._told: set[Hashable] = set()
        self._silent = 0

    def worth_saying(self, culprit: Hashable = None) -> bool:
        """True if this one shall be logged. Call it once for each.

        Args:
            culprit: who or what it is about, a routing id for instance; None for nobody.
        """
        second = int(monotonic())
        if second != self._second:
            self._second, self._lines = second, 0
            self._told.clear()
        if self._lines >= LINES_PER_SECOND or (culprit is not None and culprit in self._told):
            self._silent += 1
            return False
        self._lines += 1
        self._told.add(culprit)
        return True

    def others(self) -> str:
        """How many were not worth saying since the last line, in words to put behind it; nothing
        for none."""
        silent, self._silent = self._silent, 0
        return f" ({silent} more since the last such line)" if silent else ""
