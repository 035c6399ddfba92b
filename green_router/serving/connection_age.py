"""Closes connections that have lasted long, so that clients connect again: to a server that is new
behind a balancer, say.

Rules of this file
  1. A connection is closed when it has lasted for ``max_connection_age``, and up to a tenth more,
     by chance: clients that came together do not come again together.
  2. It is closed between requests: when nothing of it was unanswered at two looks, QUIET_FOR apart.
     One that is never quiet is closed after a further tenth all the same, or it would stay for
     ever.
  3. Whoever is at the other end connects again by himself. A request that is on its way in that
     moment is lost: ZMTP has no goodbye. So it is for clients that ask again; docs/scaling.md says
     how often they have to.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from ..hub import forked
from ..sockets.connections import Connection, Connections

LOOKS = 50
"""How often it looks in the time of ``max_connection_age``; but not more than once in 20 ms, nor
less than once a minute."""

QUIET_FOR = 0.02
"""Seconds between the two looks."""

JITTER = PATIENCE = 0.1
"""Parts of ``max_connection_age``: by how much one may be older by chance, and how long it is
waited for quiet."""


class ConnectionAge:
    """Looks for old connections. Made in the serving thread.

    Args:
        seconds: ``max_connection_age``.
        connections: of the ROUTER.
        look: sees what has happened to them.
        busy: ``busy()`` -> the descriptors of connections that have an unanswered request.
    Attributes:
        closed: how many it has closed.
        restless: those of them that were not quiet.
    """

    def __init__(
        self,
        seconds: float,
        connections: Connections,
        look: Callable[[], None],
        busy: Callable[[], Container[int | None]],
    ) -> None:
        self._seconds, self._connections, self._look_at, self._busy = (
            seconds,
            connections,
            look,
            busy,
        )
        self._due: dict[Connection, float] = {}
        self._quiet: set[Connection] = set()
        self.closed = self.restless = 0
        self._every = min(max(seconds / LOOKS, QUIET_FOR), 60.0)
        self._loop = get_hub().loop
        self._timer: Any = None
        self._again(self._every)
        forked.arm(self)

    def _again(self, seconds: float) -> None:
        self._timer = self._loop.timer(seconds)
        self._timer.start(self._look)

    def _look(self) -> None:
        """HUB."""
        self.close()
        self._again(QUIET_FOR if self._close_old(monotonic()) else self._every)

    def _close_old(self, now: float) -> bool:
        """Close those whose time has come; True if some are still to be closed."""
        connections = self._connections
        self._look_at()
        due = self._due
        self._due = {
            each: due.get(each) or each.seen_at + self._seconds * (1 + JITTER * random.random())
            for each in connections.live.values()
        }
        old = [each for each, at in self._due.items() if at <= now]
        if not old:
            self._quiet.clear()
            return False
        busy = self._busy()
        before, self._quiet = self._quiet, {each for each in old if each.descriptor not in busy}
        for each in old:
            quiet = each in before and each in self._quiet
            if (quiet or now > self._due[each] + PATIENCE * self._seconds) and connections.drop(
                each
            ):
                self.closed += 1
                self.restless += not quiet
        return True

    def close(self) -> None:
        """HUB or OWNER. Let go of the timer."""
        if self._timer is not None:
            self._timer.stop()
            self._timer.close()
            self._timer = None

    disarm = close
