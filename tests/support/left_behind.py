"""Processes that somebody else has started, and whether they have ended.

Rules of this file
  1. Nobody is told when such a process ends: one looks again and again, within a limit.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from processes_apart import until


def alive(pid: int) -> bool:
    """Whether a process runs. Nobody may wait for one whose parent has ended; then it is a zombie
    for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except OSError:
        return False


def until_gone(pids: Iterable[int]) -> None:
    """Wait until none of these runs."""
    until(lambda: not any(map(alive, pids)))
