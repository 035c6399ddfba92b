"""The processes that this one has started for calls.

Rules of this file
  1. The kernel is asked, not who started them.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def children() -> list[int]:
    """Their process ids."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"offload/child.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found
