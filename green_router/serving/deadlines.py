"""One timer for all handler timeouts.

Rules of this file
  1. A request with a deadline costs nothing: the limit is the same for all, so the table of open requests, which stands
     in order of arrival, is the list of deadlines too. There is one timer, for the oldest.
  2. Where nothing is open no timer is started. One that was started for a request that has been answered since fires
     once, finds the next, or nothing.
"""
from __future__ import annotations

from collections.abc import Callable
from time import monotonic

from gevent.hub import get_hub

from ..messages.in_flight import InFlight
from ..messages.request import Request

GRAIN = 0.005
"""Seconds between two looks at the least, so that ten thousand deadlines that pass one after the other cost 200 looks a
second. Half of the 10 ms within which a late request must be answered."""


class Deadlines:
    """Ends requests that are older than the limit. Made in the serving thread.

    Args:
        seconds: the limit; None for none.
        in_flight: the table of open requests.
        overdue: ``overdue(request, seconds)``, called in the hub.
    """

    def __init__(self, seconds: float | None, in_flight: InFlight, overdue: Callable[[Request, float], None]) -> None:
        self._seconds, self._in_flight, self._overdue = seconds, in_flight, overdue
        self._loop = get_hub().loop
        self._timer = self._loop.timer(0)
        self.watching = seconds is None

    def watch(self) -> None:
        """Start the timer for the oldest open request, unless it runs. The owner asks ``watching`` first."""
        oldest = self._in_flight.oldest()
        if oldest is not None and self._seconds is not None:
            self._timer.close()
            self._timer = self._loop.timer(max(oldest.received_at + self._seconds - monotonic(), GRAIN))
            self._timer.start(self._look)
            self.watching = True

    def _look(self) -> None:
        """HUB. End what is overdue, and watch the next."""
        assert self._seconds is not None
        self.watching = False
        for request in self._in_flight.overdue(monotonic() - self._seconds):
            self._overdue(request, self._seconds)
        self.watch()

    def close(self) -> None:
        self._timer.close()
        self.watching = True
