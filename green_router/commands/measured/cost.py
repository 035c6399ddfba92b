"""The cost of another process: its CPU time and its wake-ups, as Linux counts them.

Rules of this file
  1. Nothing but /proc is read: no library, no privileges, no influence on the process.
  2. Where the system does not say (no /proc), a figure is None; none is ever estimated.
  3. A thread that ends takes its counts with it, so the figures are for processes whose threads
     stay.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

GONE = (FileNotFoundError, ProcessLookupError)
"""What reading /proc raises about a thread that has just ended."""


@dataclass(frozen=True, slots=True)
class Cost:
    """The cost of a process between two samples, all its threads together.

    Attributes:
        seconds: the time between the samples.
        cpu_seconds: CPU time used; None where the system does not say.
        wakeups: how often a thread slept and was woken (voluntary context switches); None likewise.
    """

    seconds: float
    cpu_seconds: float | None
    wakeups: int | None

    @property
    def cpu_percent(self) -> float | None:
        """The share of one core, 0 to 100 for each thread."""
        return None if self.cpu_seconds is None else 100 * self.cpu_seconds / self.seconds

    @property
    def wakeups_per_second(self) -> float | None:
        """How often a second a thread was woken."""
        return None if self.wakeups is None else self.wakeups / self.seconds


class Usage:
    """One sample of a process's counters.

    Args:
        pid: the process.
    """

    __slots__ = ("at", "cpu_seconds", "wakeups")

    def __init__(self, pid: int) -> None:
        self.at = time.monotonic()
        threads = list(Path(f"/proc/{pid}/task").glob("*"))
        self.cpu_seconds = sum(map(_cpu_seconds, threads)) if threads else None
        self.wakeups = sum(map(_wakeups, threads)) if threads else None

    def since(self, earlier: Usage) -> Cost:
        """The difference to an earlier sample of the same process."""
        seconds = self.at - earlier.at
        if (
            self.cpu_seconds is None
            or earlier.cpu_seconds is None
            or self.wakeups is None
            or earlier.wakeups is None
        ):
            return Cost(seconds, None, None)
        return Cost(seconds, self.cpu_seconds - earlier.cpu_seconds, self.wakeups - earlier.wakeups)


def _cpu_seconds(thread: Path) -> float:
    """CPU time of one thread: to the nanosecond from schedstat, in clock ticks where the kernel has
    none."""
    try:
        return int((thread / "schedstat").read_text().split()[0]) / 1e9
    except GONE:
        pass
    try:
        fields = (thread / "stat").read_text().rpartition(")")[2].split()
    except GONE:
        return 0.0
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _wakeups(thread: Path) -> int:
    try:
        lines = (thread / "status").read_text().splitlines()
    except GONE:
        return 0
    return next(
        int(line.split()[1]) for line in lines if line.startswith("voluntary_ctxt_switches:")
    )
