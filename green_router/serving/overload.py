"""What is said of overload: when it begins and when it ends, not once for each message.

Rules of this file
  1. It only notes and tells. Whether there is overload, the owner and its admission know.
  2. It ends when nothing had to wait or was refused for a second. Outside an overload there is no timer.
"""
from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from gevent.hub import get_hub

log = logging.getLogger("green_router.overload")

CALM = 1.0
"""Seconds without a pause or a refusal after which an overload is over."""


class Overload:
    """Notes pauses and refusals.

    Args:
        run: calls an errand where it may block (logging may).
    """

    __slots__ = ("_begun", "_last", "_loop", "_refused", "_run", "_timer")

    def __init__(self, run: Callable[[Callable[[], None]], None]) -> None:
        self._run = run
        self._loop = get_hub().loop
        self._timer: Any = self._loop.timer(CALM)
        self._begun: float | None = None
        self._last = 0.0
        self._refused = 0

    @property
    def active(self) -> bool:
        """Whether there is an overload now."""
        return self._begun is not None

    def note(self, refused: int = 0) -> None:
        """OWNER. A limit is reached: the server has stopped taking, or that many messages were refused."""
        self._last = monotonic()
        self._refused += refused
        if self._begun is None:
            self._begun = self._last
            what = "refuses requests" if refused else "takes no more requests for now: clients wait"
            self._run(partial(log.warning, "overload: a limit of requests in flight is reached; the server %s", what))
            self._timer.start(self._look)

    def _look(self) -> None:
        """HUB."""
        now = monotonic()
        if now - self._last < CALM:
            self._timer.close()
            self._timer = self._loop.timer(self._last + CALM - now)
            self._timer.start(self._look)
        elif self._begun is not None:
            self._run(partial(log.warning, "overload: over after %.1f s, %d requests refused", self._last - self._begun,
                              self._refused))
            self.close()

    def close(self) -> None:
        """End it without a word."""
        self._timer.close()
        self._timer = self._loop.timer(CALM)
        self._begun, self._refused = None, 0
