"""Signals, noted while something serves.

Rules of this file
  1. A signal handler only notes; greenlets act. It does not even log: it may have interrupted a
     write to the same stream.
  2. The signal handlers that the program had are restored, at the end and in forked children; one
     that somebody has installed since stays.
  3. Only the main thread gets signals; in any other, nothing is done here.

Why there is a pipe
  Python runs a signal handler when its main thread next runs Python. A signal that comes just
  before the hub sleeps, or that the system gives to another thread, ends no wait by itself: without
  the wake-up descriptor (signal.set_wakeup_fd) an idle server would notice it with the next
  message.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from gevent.hub import get_hub

from . import forked

ENDING = (signal.SIGTERM, signal.SIGINT)
"""The signals that end a service."""


def heeded(*numbers: int) -> list[int]:
    """Return those of these signals that are not ignored.

    What was ignored when the program began stays ignored, where it would end it: a shell starts the
    background jobs of a script so (SIGINT), and nohup(1) what shall outlive its terminal (SIGHUP).
    """
    return [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]


class Signals:
    """Catches signals between ``catch`` and ``restore``.

    Args:
        noted: ``noted(number)``, called in the signal handler, in whichever greenlet runs.
        numbers: which signals.
    """

    def __init__(self, noted: Callable[[int], None], *numbers: int) -> None:
        self._noted, self._numbers = noted, numbers
        self._before: dict[int, Any] = {}

    def catch(self) -> None:
        """Install the handlers, in the main thread."""
        if self._numbers and threading.current_thread() is threading.main_thread():
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
            self._watcher = get_hub().loop.io(self._pipe[0], 1)
            self._watcher.start(os.read, self._pipe[0], 512)
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in self._numbers:
                self._before[number] = signal.signal(number, self._note)
            forked.arm(self)

    def restore(self) -> None:
        """Give the program its own back."""
        if not self._before:
            return
        for number, handler in self._before.items():
            if signal.getsignal(number) == self._note:
                # None: one that is not Python's.
                signal.signal(number, handler if handler is not None else signal.SIG_DFL)
        self._before.clear()
        wakeup_fd = signal.set_wakeup_fd(self._wakeup_before)
        if wakeup_fd != self._pipe[1]:
            signal.set_wakeup_fd(wakeup_fd)
        self._watcher.stop()
        self._watcher.close()
        for end in self._pipe:
            os.close(end)

    disarm = restore

    def _note(self, number: int, frame: FrameType | None) -> None:
        """SIGNAL."""
        self._noted(number)
