"""Telling systemd how the service is: sd_notify(3).

Rules of this file
  1. Where NOTIFY_SOCKET is not set, nothing happens. Where telling fails, nothing happens either: a
     service does not fail because nobody listens.
  2. Nobody waits for the service manager. What it has no room for is kept, in order, and told when
     it has; for a while.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from time import CLOCK_MONOTONIC, clock_gettime_ns, monotonic

import gevent

TOLD_WITHIN = 5.0
"""Seconds for which it is tried. A service manager that has not read for so long does not wait for
us either."""

TRIED_EVERY = 0.05
"""Seconds between two tries: nothing else says when a datagram socket of another process has room
again."""

_waiting: deque[bytes] = deque()
"""What the service manager has had no room for."""


def notify(*lines: str) -> bool:
    """Tell the service manager; True if it has been told, or will be as soon as it has room.

    Args:
        lines: as in sd_notify(3): ``READY=1``, ``STOPPING=1``, ``STATUS=...``.
    """
    if not os.environ.get("NOTIFY_SOCKET", "").startswith(("/", "@")):
        return False
    message = "\n".join(lines).encode(errors="backslashreplace")
    if _waiting:
        _waiting.append(message)
        return True
    try:
        _tell(message)
    except BlockingIOError:
        _waiting.append(message)
        gevent.spawn(_tell_later)
    except OSError:
        return False
    return True


def _tell(message: bytes) -> None:
    """Raises BlockingIOError where there is no room, and other OSErrors where nobody is there."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.connect("\0" + path[1:] if path.startswith("@") else path)
        out.send(message)


def _tell_later() -> None:
    until = monotonic() + TOLD_WITHIN
    while _waiting and monotonic() < until:
        try:
            _tell(_waiting[0])
        except BlockingIOError:
            gevent.sleep(TRIED_EVERY)
        except OSError:
            break
        else:
            _waiting.popleft()
    _waiting.clear()


def reloading() -> bool:
    """Tell that the application is being replaced; ``READY=1`` follows when it is."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")
