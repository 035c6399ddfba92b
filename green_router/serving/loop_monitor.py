"""Names the handler that blocks the loop.

Rules of this file
  1. It looks from an OS thread of its own, because nothing in the blocked thread can.
  2. It costs nothing while the server is idle: the thread sleeps without a timeout until the loop
     turns. While it turns, or requests are unsettled, that costs a wake-up every ``block_warning``
     seconds.
  3. It reads; it never touches what it sees.
  4. Whatever blocks is noticed, also a handler that has replied, and a greenlet that a handler has
     left behind: so what wakes the thread is the loop's own turn, not a request.

A loop is blocked when a callback that was given to it has not run after ``block_warning`` seconds.
The stack is the one of the serving thread at that moment; the handler is the one whose greenlet
runs (all others have a frame to return to).
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from time import monotonic

from gevent.hub import get_hub
from gevent.monkey import get_original

from ..hub import forked
from ..hub.log import Log
from ..messages.in_flight import InFlight
from ..settings import Settings

log = Log("watchdog")

start_new_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")
sleep = get_original("time", "sleep")

HIGHEST = 2
"""Priority of a watcher: EV_MAXPRI of libev. libuv has none, and calls this kind before timers."""

CALM_LOOKS = 2
"""In so many looks nothing has happened before the thread sleeps. One is not enough: what the loop
had to call when it was looked at, it may have called since, and may be in it."""


class LoopMonitor:
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
    """

    def __init__(
        self,
        seconds: float,
        in_flight: InFlight,
        busy: Callable[[], object],
        name: str,
        thread: int,
    ) -> None:
        self._seconds, self._in_flight, self._busy, self._name, self._thread = (
            seconds,
            in_flight,
            busy,
            name,
            thread,
        )
        self._loop = get_hub().loop
        self._gate = allocate_lock()
        self._gate.acquire()
        self._given = self._ran = 0.0
        # Before what this turn calls: that may block.
        self._turn = self._loop.check(ref=False, priority=HIGHEST)
        self._turned = self._closed = False
        self.asleep = True
        self.lag = 0.0
        forked.arm(self)
        start_new_thread(self._watch, ())

    @classmethod
    def of(
        cls,
        settings: Settings,
        in_flight: InFlight,
        busy: Callable[[], object],
        name: str,
        thread: int,
    ) -> LoopMonitor | None:
        """Return that of these settings, or None if there is none."""
        seconds = settings.block_warning
        return None if seconds is None else cls(seconds, in_flight, busy, name, thread)

    def wake(self) -> None:
        """HUB, OWNER or WATCHDOG. There is something to watch."""
        self.asleep = False
        with suppress(RuntimeError):  # the other one has opened it just now
            if self._gate.locked():
                self._gate.release()

    def close(self) -> None:
        """End the thread, within ``seconds``."""
        self._closed = True
        self._turn.close()
        self.wake()

    disarm = close

    def _beat(self) -> None:
        """HUB. The loop has called what it was given. Its next turn is noticed: one, however many
        there are till the next look."""
        self._ran = monotonic()
        self.lag = self._ran - self._given
        self._turned = False
        if not self._closed:
            self._turn.start(self._turns)

    def _turns(self) -> None:
        """HUB. Something has happened, and is about to be called."""
        self._turn.stop()
        self._turned = True
        if self.asleep:
            self.wake()

    def _watch(self) -> None:
        """WATCHDOG."""
        calm = 0
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
            # asleep first: either the hub, in its next turn, sees that it must wake this thread, or
            # the turn has been seen.
            self.asleep = True
            calm = 0 if self._turned or self._busy() else calm + 1
            if calm < CALM_LOOKS:
                self.wake()

    def _blocked(self) -> bool:
        return self._ran < self._given and not self._closed

    def _tell(self) -> None:
        self.lag = monotonic() - self._given
        frame = sys._current_frames().get(self._thread)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else "(no stack)"
        request = next(
            (
                holder.request
                for holder in list(self._in_flight.open.values())
                if holder.request is not None and holder.running
            ),
            None,
        )
        about = (
            f"{request!r}, {monotonic() - request.received_at:.2f} s old"
            if request is not None
            else "no request"
        )
        log.warning(
            "%s blocks the loop for more than %g s: nobody is served meanwhile. It works on %s, "
            "here:\n%s",
            self._name,
            self._seconds,
            about,
            stack,
        )
