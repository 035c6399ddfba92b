"""The machine while it is measured: was it quiet?

Rules of this file
  1. Timers of this process tell it on every system: where they are late, so are everybody's.
  2. What others take of the processors Linux tells: all that was used, less what this process and
     its children used. It is known when the children have ended.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from ..terminal import Progress

TICK = 0.02
"""Seconds between two looks at the clock, while something is measured."""

MAY_BE_LATE = 0.001
"""Seconds: of the timers, one in twenty may be that late. On a quiet machine it is a tenth."""

MAY_BE_TAKEN = 0.1
"""The share of all processors that others may have. On a quiet machine it is a fiftieth."""


class Machine:
    """The machine from now on.

    Args:
        shown: gets the steps, and the seconds that were measured.
    Attributes:
        shown: the same.
        late: by how many seconds each timer was late.
    """

    def __init__(self, shown: Progress) -> None:
        self.shown = shown
        self.late: list[float] = []
        self._begun = time.monotonic(), _used(), _own()

    def wait(self, seconds: float) -> None:
        """Let the time pass. **Blocks**."""
        now = time.monotonic()
        end = now + seconds
        while now < end:
            tick = min(TICK, end - now)
            time.sleep(tick)
            before, now = now, time.monotonic()
            self.late.append(now - before - tick)
            self.shown.advance(min(now, end) - before)

    def taken(self) -> float | None:
        """The share of all processors that others had so far, 0 to 1; None where the system does
        not say."""
        begun, used, own = self._begun
        now = _used()
        if used is None or now is None:
            return None
        return (
            max(0.0, (now - used) - (_own() - own))
            / (time.monotonic() - begun)
            / (os.cpu_count() or 1)
        )

    def doubts(self) -> Iterator[str]:
        """Why nothing that was measured meanwhile is to be trusted, if so."""
        late = sorted(self.late)[int(0.95 * len(self.late))] if self.late else 0.0
        if late > MAY_BE_LATE:
            late_ms = f"{1000 * late:.1f} ms"
            yield f"of the demo's own timers, one in twenty was late by {late_ms} or more"
        taken = self.taken()
        if taken is not None and taken > MAY_BE_TAKEN:
            yield f"other programs had {taken:.0%} of all processors"


def _own() -> float:
    return sum(os.times()[:4])


def _used() -> float | None:
    """Seconds in which any processor was in use, by whomever, also by another guest of the same
    host."""
    try:
        user, nice, system, _, _, irq, softirq, steal = map(
            int, Path("/proc/stat").read_text().split()[1:9]
        )
    except (OSError, ValueError):
        return None
    return (user + nice + system + irq + softirq + steal) / os.sysconf("SC_CLK_TCK")
