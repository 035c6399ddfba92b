"""How a worker is started: what it is told, and what it listens on.

Rules of this file
  1. Whoever wants a worker says for which slot; everything else about it is decided here, from the
     settings.
  2. What a slot listens on outlives its workers (listeners.py).
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any

from ...hub.log import Log
from ...security.policy import Policy
from ...settings import Service, Settings
from ...settings.access import without_code
from ...sockets.listeners import Listeners
from .child import Child, ChildObserver

log = Log("supervisor")


class Spawner:
    """Starts workers.

    Args:
        loader: who loads the application there, ``module:function``.
        service: what is served, and how.
        settings: of the server, by name, as they were given; ``on_error`` is a target.
        observer: is told what happens to the workers.
        activated: called when the loop of one of them should turn from now on.
    """

    def __init__(
        self,
        loader: str,
        service: Service,
        settings: dict[str, Any],
        observer: ChildObserver,
        activated: Callable[[], None],
    ) -> None:
        self._service, self._observer, self._activated = service, observer, activated
        self._direct = service.dispatch == "direct"
        self._checked = Settings(**without_code(settings))
        self._listeners: Listeners | None = None
        self._config = {
            "supervisor": os.getpid(),
            "path": [entry for entry in sys.path if isinstance(entry, str)],
            "loader": loader,
            "application": service.application,
            "settings": {**settings, "envelope": self._checked.envelope.name},
            "until_ready": service.until_ready,
            "connect": service.connect or (),
            "patch": service.patch,
            "offload": service.offload,
            "watch": service.reload,
            "gc": (service.gc_freeze, service.gc_threshold),
            "switch_interval": service.switch_interval,
            "log": (service.log_level, service.log_format, service.log_file),
        }

    def listen(self) -> tuple[str, ...]:
        """Make what workers listen on themselves, where they do; returns the endpoints. Raises
        BindError."""
        if not self._direct:
            return ()
        policy = Policy(self._checked)
        self._listeners = Listeners(self._service.bind, self._checked.backlog, policy.ipc_mode)
        policy.warn(self._listeners.endpoints, log.warning)
        return self._listeners.endpoints

    def start(self, slot: int) -> Child:
        """Start a worker. Raises OSError (BindError is one) where that cannot be done."""
        listening = self._listeners.of(slot) if self._listeners is not None else None
        limit = self.limit()
        config = {
            **self._config,
            "slot": slot,
            "endpoints": listening,
            "max_requests": limit if self._direct else None,
        }
        child = Child(
            slot,
            config,
            [descriptor for _, descriptor in listening or ()],
            self._service.boot_timeout,
            self._observer,
            self._activated,
            not self._direct,
            limit,
        )
        log.info("worker %d [%d]: starting", slot, child.pid)
        return child

    def limit(self) -> int | None:
        """After how many requests the next worker is recycled."""
        limit = self._service.max_requests
        return (
            None if limit is None else limit + random.randint(0, self._service.max_requests_jitter)
        )

    def release(self, slot: int) -> None:
        """Close what a slot listens on: nobody serves it."""
        if self._listeners is not None:
            self._listeners.release(slot)

    def close(self) -> None:
        """Close everything."""
        if self._listeners is not None:
            self._listeners.close()
