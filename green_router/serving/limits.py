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


def raise_descriptor_limit() -> int:
    """Raise the soft limit of open descriptors to the hard one.

    Returns:
        The soft limit that holds now.
    Source: getrlimit(2), RLIMIT_NOFILE.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft == hard:
        return soft
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):       # macOS: a hard limit that says "infinity" and means another number
        log.info("descriptors: the soft limit stays %d; it cannot be raised to %d", soft, hard)
        return soft
    log.info("descriptors: raised the soft limit from %d to the hard one, %d", soft, hard)
    return hard
