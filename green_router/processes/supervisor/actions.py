"""A queue of actions, done one after the other.

Rules of this file
  1. Signal handlers and callbacks of the hub only note what is to be done; one greenlet does it. So
     no two things that are done meet each other half-way.
  2. What fails unforeseen is logged, and the next thing is done: a service does not end because of
     one. Before it has begun, and when it ends, there is nothing to go on for, and the error is
     raised.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.queue import SimpleQueue

from ...hub.log import Log

log = Log("supervisor")

Action = Callable[[], None]


class ActionQueue:
    """Notes actions, and does them. Belongs to the hub of the thread that made it.

    Args:
        goes_on: ``goes_on()``, asked after an error: whether there is a service to go on for.
    """

    def __init__(self, goes_on: Callable[[], bool]) -> None:
        self._goes_on = goes_on
        self._queue: SimpleQueue[Action] = SimpleQueue()
        self._timers: set[gevent.Greenlet[..., Any]] = set()

    def do(self, action: Action) -> None:
        """Do this after all that was noted before."""
        self._queue.put(action)

    def later(self, seconds: float, action: Action) -> None:
        """Note it then."""
        timer = gevent.spawn_later(seconds, self.do, action)
        self._timers.add(timer)
        timer.rawlink(self._timers.discard)

    def act(self) -> None:
        """Do the next thing. **Blocks** until there is one."""
        action = self._queue.get()
        try:
            action()
        except Exception as error:
            if not self._goes_on():
                raise
            log.error("an error in the supervisor, which goes on", error=error)

    def close(self) -> None:
        """Forget what was to be noted later."""
        gevent.killall(list(self._timers))
