"""Finds out whether a process listens at an address.

Rules of this file
  1. It connects, and closes at once: whoever listens sees a connection that says nothing.
  2. A doubt counts as somebody. A full queue neither accepts nor refuses, a process that is stopped
     lets the kernel accept, and at another user's path nobody may look: each may be alive, and what
     it has must not be taken away.
"""

from __future__ import annotations

import socket
from typing import Any

CONNECT_WITHIN = 1.0
"""Seconds that a TCP connection may take. A path answers at once, or has a full queue."""


def listens(family: socket.AddressFamily, address: Any) -> bool:
    """Tell whether a process listens there. **Blocks** the thread, for CONNECT_WITHIN at the most.

    Args:
        family: AF_INET, AF_INET6 or AF_UNIX.
        address: as the socket module has it for that family.
    """
    with socket.socket(family, socket.SOCK_STREAM) as client:
        client.settimeout(0.0 if family == socket.AF_UNIX else CONNECT_WITHIN)
        try:
            client.connect(address)
        except (BlockingIOError, TimeoutError, PermissionError):
            return True
        except OSError:
            return False
    return True
