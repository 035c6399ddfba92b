"""How many descriptors the process may have.

Rules of this file
  1. A soft limit below the hard one is only a default: it is raised when a server starts, because each connection takes a
     descriptor, and at the limit libzmq cannot accept and tries again without a pause.
  2. The limit is only ever raised, never beyond the hard one, and what was changed is logged.
"""
from __future__ import annotations

import resource

from .log import Log

log = Log("limits")


WHERE_THERE_IS_NONE = 65536
"""What a soft limit becomes below a hard one that says "infinity", which not every system takes for a soft one."""


def raise_descriptor_limit(most: int | None = None) -> int:
    """Raise the soft limit of open descriptors to the hard one. It holds for the whole process, and its children inherit it.

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
    log.info("descriptors: raised the soft limit from %d to %s%d", soft, "the hard one, " if wanted == hard else "", wanted)
    return wanted
