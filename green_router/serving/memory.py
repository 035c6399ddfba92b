"""What the C library is told about memory that has been freed.

Rules of this file
  1. What the user has told the C library holds: where MALLOC_TRIM_THRESHOLD_ or MALLOC_MMAP_THRESHOLD_ is set, or the
     library is another one, nothing changes.
  2. No call of a C function: it learns from what it sees.

glibc gives the end of the heap back to the kernel as soon as 128 kB of it are free, and each page that is taken again costs
a fault and is cleared. A server whose messages are large frees and takes that much all the time: 14 faults for each of 60 kB,
300 for each of 1 MiB, which is 0.4 and 0.55 of all the processor time. glibc does learn: when a piece that was mapped for
itself alone is freed, it keeps twice as much of the heap from then on (mallopt(3), M_TRIM_THRESHOLD). So it is shown one.
"""
from __future__ import annotations

PIECE_BYTES = 8 * 1024**2
"""The heap keeps twice that at its end, and not more: what lies there idle still goes back. 2 MiB are enough for messages of
60 kB, not for 1 MiB; 30 MiB do no better than 8. None of its pages is touched, so it costs one mapping."""


def keep_freed_memory() -> None:
    """Let the heap keep some of what is freed."""
    bytes(PIECE_BYTES)
