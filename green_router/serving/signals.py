"""SIGTERM and SIGINT while a server serves.

Rules of this file
  1. A signal handler only notes; greenlets act. It does not even log: it may have interrupted a write to the same stream.
     The one exception: at the second signal, a handler of the application that does not give way is interrupted, because
     nothing else could.
  2. The signal handlers that the program had are restored.
  3. Only the main thread gets signals; in any other, nothing is done here.

Why there is a pipe
  Python runs a signal handler when its main thread next runs Python. A signal that comes just before the hub sleeps, or
  that the system gives to another thread, ends no wait by itself: without the wake-up descriptor (signal.set_wakeup_fd)
  an idle server would notice it with the next message.
"""
from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent

from .handlers import HandlerGreenlet


class Signals:
    """Catches SIGTERM and SIGINT between ``catch`` and ``restore``.

    Args:
        noted: ``noted(first, name)``, called in the signal handler, in whichever greenlet runs.
    """

    def __init__(self, noted: Callable[[bool, str], None]) -> None:
        self._noted = noted
        self._before: dict[int, Any] = {}
        self._seen = False

    def catch(self) -> None:
        """Install the handlers, in the main thread."""
        if threading.current_thread() is threading.main_thread():
            self._pipe = os.pipe()
            for end in self._pipe:
                os.set_blocking(end, False)
            self._watcher = get_hub().loop.io(self._pipe[0], 1)
            self._watcher.start(os.read, self._pipe[0], 512)
            self._wakeup_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            for number in (signal.SIGTERM, signal.SIGINT):
                self._before[number] = signal.signal(number, self._note)

    def restore(self) -> None:
        """Give the program its own back."""
        if not self._before:
            return
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before.clear()
        signal.set_wakeup_fd(self._wakeup_before)
        self._watcher.stop()
        self._watcher.close()
        for end in self._pipe:
            os.close(end)

    def _note(self, number: int, frame: FrameType | None) -> None:
        """SIGNAL."""
        first, self._seen = not self._seen, True
        self._noted(first, signal.Signals(number).name)
        if not first and isinstance(getcurrent(), HandlerGreenlet):
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)
