"""Tunes this process: how many descriptors it may have, and what becomes of freed memory.

Rules of this file
  1. A soft limit below the hard one is only a default: it is raised when a server starts, because
     each connection takes a descriptor, and at the limit libzmq cannot accept and tries again
     without a pause.
  2. The limit is only ever raised, never beyond the hard one, and what was changed is logged.
  3. What the user has told the C library holds: where MALLOC_TRIM_THRESHOLD_ or
     MALLOC_MMAP_THRESHOLD_ is set, or the library is another one, nothing changes.
  4. No call of a C function: it learns from what it sees.

glibc gives the end of the heap back to the kernel as soon as 128 kB of it are free, and each page
that is taken again costs a fault and is cleared. A server whose messages are large frees and takes
that much all the time: 14 faults for each of 60 kB, 300 for each of 1 MiB, which is 0.4 and 0.55 of
all the processor time. glibc does learn: when a piece that was mapped for itself alone is freed, it
keeps twice as much of the heap from then on (mallopt(3), M_TRIM_THRESHOLD). So it is shown one.
"""

from __future__ import annotations

import resource

from ..hub.log import Log

log = Log("limits")


PIECE_BYTES = 8 * 1024**2
"""The heap keeps twice that at its end, and not more: what lies there idle still goes back. 2 MiB
are enough for messages of 60 kB, not for 1 MiB; 30 MiB do no better than 8. None of its pages is
touched, so it costs one mapping."""

WHERE_THERE_IS_NONE = 65536
"""What a soft limit becomes below a hard one that says "infinity", which not every system takes for
a soft one."""


def raise_descriptor_limit(most: int | None = None) -> int:
    """Raise the soft limit of open descriptors to the hard one. It holds for the whole process, and
    its children inherit it.

    Args:
        most: raise it no further than to this.
    Returns:
        The soft limit that holds now.
    Source: getrlimit(2), RLIMIT_NOFILE.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WHERE_THERE_IS_NONE if hard == resource.RLIM_INFINITY else hard
    wanted = wanted if most is None else min(most, wanted)
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (OSError, ValueError):
        log.info("descriptors: the soft limit stays %d; it cannot be raised to %d", soft, wanted)
        return soft
    log.info(
        "descriptors: raised the soft limit from %d to %s%d",
        soft,
        "the hard one, " if wanted == hard else "",
        wanted,
    )
    return wanted


def keep_freed_memory() -> None:
    """Let the heap keep some of what is freed."""
    bytes(PIECE_BYTES)
