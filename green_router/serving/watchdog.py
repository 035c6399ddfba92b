"""Names the handler that blocks the loop.

Rules of this file
  1. It looks from an OS thread of its own, because nothing in the blocked thread can.
  2. It costs nothing while the server is idle: the thread sleeps without a timeout until the owner takes a turn. While
     requests are unsettled it costs a wake-up every ``block_warning`` seconds.
  3. It reads; it never touches what it sees.

A loop is blocked when a callback that was given to it has not run after ``block_warning`` seconds. The stack is the one of
the serving thread at that moment; the handler is the one whose greenlet runs (all others have a frame to return to).
"""
from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from gevent.hub import get_hub
from gevent.monkey import get_original

from ..messages.in_flight import InFlight

log = logging.getLogger("green_router.watchdog")

start_new_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")
sleep = get_original("time", "sleep")


class Watchdog:
    """Watches one loop. Made in the serving thread.

    Args:
        seconds: how long a block may last unnoticed.
        in_flight: to name the request.
        busy: whether there are unsettled requests.
        name: of the handler.
        thread: identity of the serving thread.
    Attributes:
        asleep: whether the owner shall call ``wake``.
        lag: how long the last callback that was given to the loop had to wait, in seconds.
        blocks: how many blocks were seen.
    """

    def __init__(self, seconds: float, in_flight: InFlight, busy: Callable[[], object], name: str, thread: int) -> None:
        self._seconds, self._in_flight, self._busy, self._name, self._thread = seconds, in_flight, busy, name, thread
        self._loop = get_hub().loop
        self._gate = allocate_lock()
        self._gate.acquire()
        self._given = self._ran = 0.0
        self._closed = False
        self.asleep = True
        self.lag = 0.0
        self.blocks = 0
        start_new_thread(self._watch, ())

    def wake(self) -> None:
        """OWNER or WATCHDOG. There is something to watch."""
        self.asleep = False
        with suppress(RuntimeError):        # the other one has opened it just now
            if self._gate.locked():
                self._gate.release()

    def close(self) -> None:
        """End the thread, within ``seconds``."""
        self._closed = True
        self.wake()

    def _beat(self) -> None:
        """HUB. The loop turns."""
        self._ran = monotonic()
        self.lag = self._ran - self._given

    def _watch(self) -> None:
        """WATCHDOG."""
        while True:
            self._gate.acquire()
            if self._closed:
                return
            self._given = monotonic()
            self._loop.run_callback_threadsafe(self._beat)
            sleep(self._seconds)
            if self._blocked():
                self._tell()
                while self._blocked():
                    sleep(self._seconds)
                log.warning("the loop turns again, after %.2f s", self._ran - self._given)
            # asleep first: either the owner, at the end of its turn, sees that it must wake this thread, or busy() sees
            # what the owner has taken.
            self.asleep = True
            if self._busy():
                self.wake()

    def _blocked(self) -> bool:
        return self._ran < self._given and not self._closed

    def _tell(self) -> None:
        self.blocks += 1
        self.lag = monotonic() - self._given
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
        request = next((holder.request for holder in list(self._in_flight.open.values())
                        if holder.request is not None and getattr(holder, "gr_frame", None) is None), None)
        about = f"{request!r}, {monotonic() - request.received_at:.2f} s old" if request is not None else "no request"
        log.warning("%s blocks the loop for more than %g s: nobody is served meanwhile. It works on %s, here:\n%s",
                    self._name, self._seconds, about, stack)
