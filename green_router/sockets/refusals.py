"""Connections that were not let in: said in the log, but never as a flood, and counted.

Rules of this file
  1. It exists in every server, and costs nothing until an endpoint keeps somebody out.
  2. What libzmq tells is read in the hub, whatever else happens (connections.py).
"""

from __future__ import annotations

from typing import Any

import zmq
from gevent.hub import get_hub

from ..hub import forked
from ..hub.log import Log
from ..hub.log_throttle import LogThrottle
from ..security.control import AccessControl
from .connections import Connections

log = Log("security")


class Refusals:
    """Watches one ROUTER. Made in the serving thread, before it is bound.

    Args:
        router: the ROUTER.
        access: who may connect.
        connections: of it; where they are known, whoever knows them looks.
    """

    def __init__(
        self, router: zmq.Socket[Any], access: AccessControl, connections: Connections
    ) -> None:
        self._router, self._access, self._known = router, access, connections
        self._throttle = LogThrottle()
        self._connections: Connections | None = None
        self._watcher: Any = None
        access.open(self._say, self._watch)
        forked.arm(self)

    def _say(self, address: str, text: str, *arguments: object) -> None:
        """HUB or a greenlet. At most one line a second about an address."""
        if self._throttle.worth_saying(address):
            log.warning("%s%s", text % arguments, self._throttle.others())

    def _watch(self) -> None:
        """From now on there is something to count."""
        listeners = self._access.failures.listeners
        if self._known.fd >= 0:
            self._known.heard.update(listeners)
            return
        self._connections = Connections(self._router, listeners)
        self._connections.heard.update(listeners)
        self._watcher = get_hub().loop.io(self._connections.fd, 1)
        self._watcher.start(self._look)
        self._look()

    def _look(self) -> None:
        """HUB."""
        if self._connections is not None:
            try:
                self._connections.look()
            except zmq.ZMQError:  # the context is being ended
                self.disarm()
            self._connections.ended.clear()
            self._connections.fresh.clear()

    def disarm(self) -> None:
        """In a forked child: nothing is read."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    def close(self) -> None:
        """Read nothing more. Before the ROUTER is closed."""
        self.disarm()
        if self._connections is not None:
            self._connections.close()
            self._connections = None
