"""Timers that repeat, to a small part of a millisecond where the system has them.

Rules of this file
  1. libev and libuv wait for whole milliseconds, rounded up, each time they begin to wait: where
     other things wake the loop meanwhile, a timer of a millisecond fires up to another one late.
     Linux has timers with a descriptor (timerfd_create(2)), which the loop watches as any other.
  2. Where there are none, where no descriptor is left, and where the loop is not gevent's own (in
     ``FakeClock``), the loop's timers serve.
  3. A forked child shares the timer behind the descriptor: there it is closed, and never set.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

from gevent.hub import get_hub

READ = 1
MONOTONIC, NONBLOCK, CLOEXEC = 1, os.O_NONBLOCK, getattr(os, "O_CLOEXEC", 0)
ITIMERSPEC = struct.Struct("llll")


class RepeatingTimer(Protocol):
    """A timer that calls back in the hub, again and again."""

    def repeat(self, seconds: float) -> None:
        """HUB or HANDLER. Call back after this time, and each time that it has passed again."""

    def stop(self) -> None:
        """HUB or HANDLER. Call back no more; ``repeat`` begins anew."""

    def close(self) -> None:
        """HUB or OWNER, or in a forked child. Call back no more, whatever happens."""


class LoopTimer:
    """A repeating timer of the loop.

    Args:
        loop: of the hub.
        callback: called without arguments.
    """

    def __init__(self, loop: Any, callback: Callable[[], object]) -> None:
        self._loop = loop
        self._callback: Callable[[], object] | None = callback
        self._timer: Any = loop.timer(0)

    def repeat(self, seconds: float) -> None:
        """HUB or HANDLER. Call back after this time, and each time that it has passed again."""
        if self._callback is not None:
            self._timer.close()
            self._timer = self._loop.timer(seconds, seconds)
            self._timer.start(self._callback)

    def stop(self) -> None:
        """HUB or HANDLER. Call back no more; ``repeat`` begins anew."""
        self._timer.stop()

    def close(self) -> None:
        """HUB or OWNER, or in a forked child. Call back no more, whatever happens."""
        self._callback = None
        self._timer.close()


class DescriptorTimer:
    """A repeating timer of the system, which has a descriptor.

    Args:
        loop: of the hub.
        callback: called without arguments.
    Raises:
        OSError: no descriptor is left.
    """

    def __init__(self, loop: Any, callback: Callable[[], object]) -> None:
        self._callback: Callable[[], object] | None = callback
        self._descriptor = _libc.timerfd_create(MONOTONIC, NONBLOCK | CLOEXEC)
        if self._descriptor < 0:
            raise OSError(ctypes.get_errno(), "timerfd_create")
        try:
            self._watcher: Any = loop.io(self._descriptor, READ)
        except BaseException:
            os.close(self._descriptor)
            raise

    def _set(self, seconds: float) -> None:
        whole, part = divmod(round(seconds * 10**9), 10**9)
        if _libc.timerfd_settime(
            self._descriptor, 0, ITIMERSPEC.pack(whole, part, whole, part), None
        ):
            raise OSError(ctypes.get_errno(), "timerfd_settime")

    def repeat(self, seconds: float) -> None:
        """HUB or HANDLER. Call back after this time, and each time that it has passed again."""
        if self._callback is not None:
            self._set(seconds)
            if not self._watcher.active:
                self._watcher.start(self._fired)

    def _fired(self) -> None:
        """HUB."""
        try:
            os.read(self._descriptor, 8)
        except BlockingIOError:
            return  # it was set anew since the loop has looked
        if self._callback is not None:
            self._callback()

    def stop(self) -> None:
        """HUB or HANDLER. Call back no more; ``repeat`` begins anew."""
        if self._callback is not None and self._watcher.active:
            self._watcher.stop()
            self._set(0)

    def close(self) -> None:
        """HUB or OWNER, or in a forked child. Call back no more, whatever happens."""
        self._callback = None
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            self._watcher.stop()
            self._watcher.close()
            os.close(descriptor)


def _load() -> Any:
    """The C library, if it has such timers and their times are as they are written here."""
    if not sys.platform.startswith("linux") or ctypes.sizeof(ctypes.c_long) != 8:
        return None
    library = ctypes.CDLL(None, use_errno=True)
    return library if hasattr(library, "timerfd_settime") else None


_libc = _load()


def repeating_timer(loop: Any, callback: Callable[[], object]) -> RepeatingTimer:
    """Return the most exact timer that there is.

    Args:
        loop: of the hub.
        callback: called without arguments.
    """
    if _libc is not None and isinstance(loop, get_hub().loop_class):
        with suppress(OSError):
            return DescriptorTimer(loop, callback)
    return LoopTimer(loop, callback)
