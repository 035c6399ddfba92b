"""Checks that the loops of the workers turn.

Rules of this file
  1. A worker is asked by its channel, and answers in its hub: an answer shows that its loop turns.
  2. One that rests is not asked. It says so when it does, and when it stirs (activity.py); and it
     is thought to stir when it is given something, or stopped by a signal. So idle means no
     wake-ups in any process.
  3. What was asked and not answered stands: asking again would make a late answer look like a quick
     one.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from .child import Child
from .slots import Slots, nobody

ASKED_PER_TIMEOUT = 3
"""How often, in each worker_timeout, a worker is asked."""

ANSWERS_WITHIN = 0.5
"""Seconds that a worker has to answer before its statistics are those that it gave last."""

ASKED = ("ready", "leaving")
"""States in which a worker has a loop that should turn."""


class LivenessMonitor:
    """Asks the workers that do not rest. Belongs to the hub of the thread that made it.

    Args:
        slots: of all workers.
        timeout: seconds without an answer after which ``hung`` is called.
        hung: ``hung(child)``, in the hub, at each look.
    """

    def __init__(self, slots: Slots, timeout: float, hung: Callable[[Child], None]) -> None:
        self._slots, self._timeout, self._hung = slots, timeout, hung
        self._loop = get_hub().loop
        self._timer: Any = None
        slots.stirred = self.look_soon

    def look_soon(self) -> None:
        """HUB. Somebody has stirred."""
        if self._timer is None:
            # A new one each time: one of libev that has fired has no time left, and would fire
            # again at once, for ever.
            self._timer = self._loop.timer(self._timeout / ASKED_PER_TIMEOUT)
            self._timer.start(self._look)

    def _look(self) -> None:
        """HUB."""
        self._stop_timer()
        for child in self._slots.children:
            if child.state in ASKED:
                if child.asked_at is not None and monotonic() - child.asked_at >= self._timeout:
                    self._hung(child)
                elif child.stirs:
                    child.ask()
        if any(child.stirs for child in self._slots.children):
            self.look_soon()

    def close(self) -> None:
        """Ask nobody any more."""
        self._slots.stirred = nobody
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.close()
            self._timer = None


def answering(slots: Slots) -> set[Child]:
    """Ask everybody; returns those that answer in time, or are too young to be asked. **Blocks**
    the greenlet."""
    asked = slots.children
    for child in asked:
        if child.state in ASKED:
            child.ask()
    until = monotonic() + ANSWERS_WITHIN
    return {
        child
        for child in asked
        if child.state == "booting" or child.answers(max(0.0, until - monotonic()))
    }
