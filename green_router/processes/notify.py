"""Telling systemd how the service is: sd_notify(3).

Rules of this file
  1. Where NOTIFY_SOCKET is not set, nothing happens. Where telling fails, nothing happens either: a service does not
     fail because nobody listens.
"""
from __future__ import annotations

import os
import socket
from contextlib import suppress
from time import CLOCK_MONOTONIC, clock_gettime_ns


def notify(*lines: str) -> bool:
    """Tell the service manager; True if it has been told.

    Args:
        lines: as in sd_notify(3): ``READY=1``, ``STOPPING=1``, ``STATUS=...``.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path.startswith(("/", "@")):
        return False
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.connect("\0" + path[1:] if path.startswith("@") else path)
        out.send("\n".join(lines).encode())
        return True
    return False


def reloading() -> bool:
    """Tell that the application is being replaced; ``READY=1`` follows when it is."""
    return notify("RELOADING=1", f"MONOTONIC_USEC={clock_gettime_ns(CLOCK_MONOTONIC) // 1000}")
