"""Locks for the moment in which a place is found free and taken: who starts at the same time waits.

Rules of this file
  1. The kernel lets go of them, however a process ends: nothing is left behind that has to be
     cleaned up.
  2. They are held for milliseconds. Who cannot have one after some time goes on without: somebody
     else holds it for a purpose of his own, and a service that does not start is worse than a race
     that nobody else runs.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from time import monotonic, sleep

Warn = Callable[..., None]

PATIENCE = 2.0
"""Seconds after which one goes on without."""

TRY_EVERY = 0.005
"""Seconds between two tries. There is no way to wait for either kind that would not block the whole
hub."""


@contextmanager
def alone_in(directory: str, warn: Warn) -> Iterator[None]:
    """Keep others that use this out of a directory. **Blocks** for ``PATIENCE`` at the most.

    Args:
        warn: called with a text and its arguments where one goes on without.
    Source: flock(2).
    """
    try:
        held = os.open(directory or os.curdir, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # None there, or one that cannot be read: whoever binds in it says what is wrong.
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            _wait(lambda: fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB), directory, warn)
        yield
    finally:
        with suppress(OSError):
            # A fork in between has a copy of the descriptor, which holds the lock too.
            fcntl.flock(held, fcntl.LOCK_UN)
        os.close(held)


@contextmanager
def alone_at(port: int, warn: Warn) -> Iterator[None]:
    """Keep others of the same user that use this from a TCP port. Arguments and blocking as
    ``alone_in``.

    On Linux a name that is in no directory: it is in the same network namespace as the port.
    Source: unix(7).
    """
    if not sys.platform.startswith("linux"):
        with alone_in(tempfile.gettempdir(), warn):
            yield
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as held:
        _wait(lambda: held.bind(f"\0green_router {os.geteuid()} {port}"), f"port {port}", warn)
        yield


def _wait(take: Callable[[], object], what: str, warn: Warn) -> None:
    until = monotonic() + PATIENCE
    while True:
        try:
            take()
            return
        except OSError as error:
            if not isinstance(error, BlockingIOError) and error.errno != errno.EADDRINUSE:
                raise
        if monotonic() >= until:
            warn(
                "%s: another process holds the lock on it for longer than a start takes; going on "
                "without",
                what,
            )
            return
        sleep(TRY_EVERY)
