"""Tells how a process has ended, and whether the kernel may have killed it because memory has run
out.

Rules of this file
  1. The kernel counts such deaths, but does not say whose they are. So whoever asks compares with
     what was counted a moment before.
  2. The counter that is nearest is read: that of this process's control group, in which other
     services do not count; where there is none, that of the machine.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

ROOT = Path("/")
"""Where proc and sys are."""

WORD = "oom_kill"
"""Before the number, in each of these files."""


def ending(code: int) -> str:
    """Return how a process ended, as the end of a sentence.

    Args:
        code: its exit code; minus the number of the signal that killed it, as ``subprocess`` has
            it.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def memory_kills() -> int:
    """How many processes have been killed so, as far as the kernel tells: 0 where it does not."""
    for path in _counters():
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                word, _, number = line.partition(" ")
                if word == WORD:
                    return int(number)
    return 0


def _counters() -> Iterator[Path]:
    """The files that may have it, nearest first: cgroup v2 and v1, each also as a container sees
    its own."""
    groups = ROOT / "sys/fs/cgroup"
    with suppress(OSError):
        for line in (ROOT / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield groups / path.lstrip("/") / "memory.events"
                yield groups / "memory.events"
            elif "memory" in controllers.split(","):
                yield groups / "memory" / path.lstrip("/") / "memory.oom_control"
                yield groups / "memory/memory.oom_control"
    yield ROOT / "proc/vmstat"
