"""Logs overload: when it begins, that it stands still, and when it ends, not once for each message.

Rules of this file
  1. It only notes and tells. Whether there is overload, the owner and its admission know.
  2. It lasts for as long as a limit is reached, however long nothing happens; then until nothing
     had to wait or was refused for a second. The reply that makes room ends it: nobody asks whether
     there is some.
  3. Outside an overload there is no timer, and none while it stands still, once that is said.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from ..hub.guarded import guarded
from ..hub.log import Log
from ..messages.in_flight import InFlight
from ..settings import Settings
from .handlers import Workplace

log = Log("overload")

CALM = 1.0
"""Seconds without a pause or a refusal after which an overload is over."""

STANDSTILL = 5.0
"""Seconds at a limit in which no request has left before that is said. Requests that are merely
slow leave one by one."""


class Overload:
    """Notes pauses and refusals.

    Args:
        handlers: calls a task where it may block (logging may); has those that wait for a handler.
        in_flight: the others.
        settings: what can be done about requests that do not leave.
        failed: called with an error after which nothing is said any more.
    Attributes:
        full: whether a limit is reached: nothing comes in before a request leaves.
    """

    __slots__ = (
        "_begun",
        "_due",
        "_guarded_look",
        "_handlers",
        "_held",
        "_held_since",
        "_in_flight",
        "_last",
        "_loop",
        "_refused",
        "_run",
        "_said",
        "_settings",
        "_timer",
        "full",
    )

    def __init__(
        self,
        handlers: Workplace,
        in_flight: InFlight,
        settings: Settings,
        failed: Callable[[BaseException], object],
    ) -> None:
        self._handlers, self._in_flight, self._settings = handlers, in_flight, settings
        self._run = handlers.run
        self._guarded_look = guarded(self._look, failed)
        self._loop = get_hub().loop
        self._timer: Any = None
        self._due = 0.0
        self._begun: float | None = None
        self._last = self._held_since = 0.0
        self._refused = self._held = 0
        self.full = self._said = False

    def note(self, refused: int = 0) -> None:
        """OWNER. A limit was reached: messages have to wait, or that many were refused."""
        self._last = now = monotonic()
        self._refused += refused
        if self._begun is None:
            self._begun = now
            what = "refuses requests" if refused else "takes no more requests for now: clients wait"
            self._run(
                partial(
                    log.warning,
                    "overload: a limit of requests in flight is reached; the server %s",
                    what,
                )
            )
            self._set(CALM)

    def fill(self, held: int) -> None:
        """OWNER. A limit is reached, by that many requests, and stays so until ``ease``."""
        self.note()
        if not self.full or held != self._held:
            self.full, self._held, self._held_since = True, held, self._last

    def ease(self) -> None:
        """OWNER. There is room again."""
        self.full = False
        self._last = monotonic()
        if self._timer is None or self._due > self._last + CALM:
            self._set(CALM)

    def _set(self, seconds: float) -> None:
        """Look again after that time. A timer that has fired has no time left: each is a new
        one."""
        if self._timer is not None:
            self._timer.close()
        self._due = monotonic() + seconds
        # libuv has none that are shorter, and warns.
        self._timer = self._loop.timer(max(seconds, 0.001))
        self._timer.start(self._guarded_look)

    def _look(self) -> None:
        """HUB."""
        now = monotonic()
        left = self._held_since + STANDSTILL - now if self.full else self._last + CALM - now
        self._timer.close()
        self._timer = None
        if self.full and self._said:
            return  # ``ease`` goes on from here
        if left > 0:
            self._set(left)
        elif self.full:
            self._said = True
            self._run(self._say_standstill)
        elif self._begun is not None:
            self._run(
                partial(
                    log.warning,
                    "overload: over after %.1f s, %d requests refused",
                    self._last - self._begun,
                    self._refused,
                )
            )
            self.close()

    def _say_standstill(self) -> None:
        request = self._in_flight.oldest() or next(iter(self._handlers.inbox), None)
        oldest = (
            "" if request is None else f", the oldest for {monotonic() - request.received_at:.1f} s"
        )
        log.warning(
            "overload: no request has left for %g s: %d wait for their replies%s, and until one "
            "leaves nothing more comes in; %s",
            STANDSTILL,
            self._held,
            oldest,
            self._advice(),
        )

    def _advice(self) -> str:
        """Return what an operator can do, as the end of a sentence."""
        settings = self._settings
        limits = (
            "max_in_flight"
            if settings.max_in_flight_bytes is None
            else "max_in_flight or max_in_flight_bytes"
        )
        if settings.handler_timeout is None:
            return f"set handler_timeout, or a larger {limits}"
        return (
            f"their handler_timeout is {settings.handler_timeout:g} s: set a shorter one, or a "
            f"larger {limits}"
        )

    def close(self) -> None:
        """End it without a word."""
        if self._timer is not None:
            self._timer.close()
            self._timer = None
        self._begun, self._refused = None, 0
        self.full = self._said = False
