"""Checks that the loops of the workers turn.

Rules of this file
  1. A worker is asked by its channel, and answers in its hub: an answer shows that its loop turns.
  2. One that is idle is not asked. It says when it is, and when it is active again (activity.py);
     and it counts as active when it is given something, or stopped by a signal. So idle means no
     wake-ups in any process.
  3. What was asked and not answered stands: asking again would make a late answer look like a quick
     one.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from .child import Child, State
from .slots import Slots

ASKED_PER_TIMEOUT = 3
"""How often, in each worker_timeout, a worker is asked."""

ANSWERS_WITHIN = 0.5
"""Seconds that a worker has to answer before its statistics are those that it gave last."""


class LivenessMonitor:
    """Asks the workers that are active. Belongs to the hub of the thread that made it.

    Args:
        slots: of all workers.
        timeout: seconds without an answer after which ``hung`` is called; None to ask nobody.
        hung: ``hung(child, timeout)``, in the hub, at each look.
    """

    def __init__(
        self, slots: Slots, timeout: float | None, hung: Callable[[Child, float], None]
    ) -> None:
        self._slots, self._timeout, self._hung = slots, timeout, hung
        self._loop = get_hub().loop
        self._timer: Any = None

    def look_soon(self) -> None:
        """HUB. A worker has become active."""
        if self._timer is None and self._timeout is not None:
            # A new one each time: one of libev that has fired has no time left, and would fire
            # again at once, for ever.
            self._timer = self._loop.timer(self._timeout / ASKED_PER_TIMEOUT)
            self._timer.start(self._look, self._timeout)

    def _look(self, timeout: float) -> None:
        """HUB."""
        self._stop_timer()
        for child in self._slots.children:
            if child.running:
                if child.asked_at is not None and monotonic() - child.asked_at >= timeout:
                    self._hung(child, timeout)
                elif child.active:
                    child.ask()
        if any(child.active for child in self._slots.children):
            self.look_soon()

    def close(self) -> None:
        """Ask nobody any more."""
        self._timeout = None
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
        if child.running:
            child.ask()
    until = monotonic() + ANSWERS_WITHIN
    return {
        child
        for child in asked
        if child.state is State.BOOTING or child.answers(max(0.0, until - monotonic()))
    }
