"""Stacks that a process writes when it crashes: a file without a name, which nobody has to read
meanwhile.

Rules of this file
  1. Who dies never waits for who reads. A full pipe would hold it for ever, and what had killed it
     would stay unknown.
  2. The descriptor is shared with the process that writes, and so is its position: it is read from
     the start, by ``pread``.
  3. What is too much for a log is cut where it is least missed: the reason and the thread that
     crashed stay.
"""

from __future__ import annotations

import os
import tempfile

STACKS_BYTES = 64 * 1024
"""Stacks that are logged; more are cut. faulthandler writes up to 100 frames of each of 100
threads: a megabyte and more."""

MOST_BYTES = 16 * 1024 * 1024
"""More than faulthandler writes: what somebody else has written to that descriptor is not read."""

CURRENT = "Current thread "
"""What faulthandler calls the thread that crashed; others may stand before it."""


def make() -> int:
    """Make such a file; returns a descriptor. Raises OSError."""
    if hasattr(os, "memfd_create"):  # Linux
        try:
            return os.memfd_create("stacks", os.MFD_CLOEXEC)
        except OSError:  # a system that forbids it
            pass
    with tempfile.TemporaryFile(buffering=0) as file:
        return os.dup(file.fileno())


def read(descriptor: int) -> str:
    """The stacks that were written, shortened; empty if there are none."""
    return shortened(os.pread(descriptor, MOST_BYTES, 0).decode(errors="backslashreplace").rstrip())


def shortened(stacks: str) -> str:
    """The same, or where it is too long: its beginning, and the thread that crashed."""
    if len(stacks) <= STACKS_BYTES:
        return stacks
    half = STACKS_BYTES // 2
    where = stacks.find(CURRENT)
    start = max(where, half) if where >= 0 else half
    left_out = len(stacks) - half - len(stacks[start : start + half])
    gap = f"\n... {left_out} characters left out ...\n" if start > half else ""
    return (
        stacks[:half]
        + gap
        + stacks[start : start + half]
        + ("" if gap else f"\n... {left_out} characters left out")
    )
