"""One timer for all handler timeouts.

Rules of this file
  1. A request with a deadline costs nothing: the limit is the same for all, so the table of open
     requests, which stands in order of arrival, is the list of deadlines too. There is one timer,
     for the oldest.
  2. Where nothing is open no timer is started. One that was started for a request that has been
     answered since fires once, finds the next, or nothing.
  3. A request that waits for a handler has the same deadline: it is answered at it, and no handler
     sees it. Those that wait stand in order of arrival too, behind those that do not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from time import monotonic

from gevent.hub import get_hub

from ..hub import forked
from ..hub.guarded import guarded
from ..messages.in_flight import InFlight
from ..messages.request import Request

GRAIN = 0.005
"""Seconds between two looks at the least, so that ten thousand deadlines that pass one after the
other cost 200 looks a second. Half of the 10 ms within which a late request must be answered."""


class Deadlines:
    """Ends requests that are older than the limit. Made in the serving thread.

    Args:
        seconds: the limit; None for none.
        in_flight: the table of open requests.
        waiting: requests that wait for a handler, the oldest first.
        overdue: ``overdue(request, seconds)``, called in the hub.
        failed: called with an error after which no deadline is kept any more.
    Attributes:
        seconds: the limit.
        watching: whether the timer runs, or there is none.
    """

    def __init__(
        self,
        seconds: float | None,
        in_flight: InFlight,
        waiting: deque[Request],
        overdue: Callable[[Request, float], None],
        failed: Callable[[BaseException], object],
    ) -> None:
        self.seconds, self._in_flight, self._overdue = seconds, in_flight, overdue
        self._guarded_look = guarded(self._look, failed)
        self._loop = get_hub().loop
        self._timer = self._loop.timer(0)
        self._waiting = waiting
        self.watching = seconds is None
        forked.arm(self)

    def watch(self) -> None:
        """Start the timer for the oldest open request, unless it runs. The owner asks ``watching``
        first."""
        oldest = self._in_flight.oldest()
        waiting = self._waiting
        if waiting and (oldest is None or waiting[0].received_at < oldest.received_at):
            # A request that waits again, after the worker that had it was lost.
            oldest = waiting[0]
        if oldest is not None and self.seconds is not None:
            self._timer.close()
            self._timer = self._loop.timer(
                max(oldest.received_at + self.seconds - monotonic(), GRAIN)
            )
            self._timer.start(self._guarded_look)
            self.watching = True

    def _look(self) -> None:
        """HUB. End what is overdue, and watch the next."""
        assert self.seconds is not None
        self.watching = False
        limit = monotonic() - self.seconds
        for request in self._in_flight.overdue(limit):
            self._overdue(request, self.seconds)
        waiting = self._waiting
        while waiting and waiting[0].received_at <= limit:
            request = waiting.popleft()
            self._in_flight.hold(request)
            self._overdue(request, self.seconds)
        self.watch()

    def close(self) -> None:
        self._timer.close()
        self.watching = True

    disarm = close
