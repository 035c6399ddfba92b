"""How long the serving thread may work before its loop looks at the outside world again.

Rules of this file
  1. A callback of the hub is no turn of the loop. gevent runs a callback that another one adds in
     the same batch, and looks at its clock only every 50 callbacks (libev; 100 on libuv): between
     them no descriptor, timer or signal is looked at. So work that goes on and on gets a slice of
     time, and goes on after a real turn: when the loop has polled.
  2. Within the slice nothing is put off: most batches are over long before its end.
  3. It has no timer and no watcher while nothing happens.

How a turn is noticed
  libev counts its polls. For libuv, which does not tell, a check watcher does: one call for each
  turn. Where the slice is used up, a timer of zero seconds keeps the loop from sleeping; what waits
  is called in the batch after it, behind all that the poll has found. libuv may call such a timer
  before the poll too: then it is started once more.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from ..hub import forked

SLICE = 0.001
"""Seconds for which handlers that do not block may run before the loop turns, and before the owner
sends what they made. Shorter makes batches small (a system call each way for every few replies),
longer makes finished replies wait."""


class Polls:
    """Counts the polls of a loop that does not.

    Attributes:
        iteration: how many there were.
    """

    __slots__ = ("_check", "iteration")

    def __init__(self, loop: Any) -> None:
        self.iteration = 0
        self._check = loop.check(ref=False)
        self._check.start(self._polled)

    def _polled(self) -> None:
        """HUB."""
        self.iteration += 1

    def close(self) -> None:
        """Let go of the watcher."""
        self._check.stop()
        self._check.close()


class Turns:
    """Divides the time of one loop into slices. Made in the serving thread."""

    __slots__ = (
        "__weakref__",
        "_begun_at",
        "_loop",
        "_polls",
        "_put_off_at",
        "_slice_ends",
        "_waiting",
        "_zero",
    )

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._polls: Any = self._loop if self._loop.iteration >= 0 else Polls(self._loop)
        self._zero: Any = self._loop.timer(0)
        self._waiting: list[Callable[[], object]] = []
        self._begun_at = self._put_off_at = -1
        self._slice_ends = 0.0
        forked.arm(self)

    def begin(self) -> float:
        """HUB or OWNER. Begin a slice, unless one has begun since the loop has polled.

        Returns:
            When it ends, in seconds of ``time.monotonic``.
        """
        if self._polls.iteration != self._begun_at:
            self._begun_at = self._polls.iteration
            self._slice_ends = monotonic() + SLICE
        return self._slice_ends

    def soon(self, callback: Callable[[], object]) -> None:
        """HUB or OWNER. Call this from the hub: in this batch, or after a real turn where the slice
        is used up."""
        if self._polls.iteration != self._begun_at or monotonic() < self._slice_ends:
            self._loop.run_callback(callback)
        else:
            self.after_poll(callback)

    def after_poll(self, callback: Callable[[], object]) -> None:
        """HUB or OWNER. Call this from the hub after a real turn."""
        if not self._waiting:
            self._put_off_at = self._polls.iteration
            self._zero.start(self._after_turn)
        self._waiting.append(callback)

    def _after_turn(self) -> None:
        """HUB."""
        self._zero.stop()
        if self._polls.iteration == self._put_off_at:
            self._zero.start(self._after_turn)
            return
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            self._loop.run_callback(callback)

    def close(self) -> None:
        """HUB or OWNER. Let go of the watchers; nothing that waits is called."""
        self._zero.stop()
        self._zero.close()
        self._waiting.clear()
        if isinstance(self._polls, Polls):
            self._polls.close()

    disarm = close
