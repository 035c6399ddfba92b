"""A proxy as a service: from its first endpoint to its last, with signals, statistics, and a drain.

Rules of this file
  1. SIGTERM and SIGINT drain, a second one ends at once; SIGHUP reads the keys again, SIGUSR1 opens
     the log again.
  2. The two sockets have a context each, and so an I/O thread each: those who may connect are
     others on each side.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import ExitStack
from time import monotonic
from typing import Any

import gevent
import zmq
from gevent.hub import get_hub

from ..errors import ConfigError
from ..hub.log import Log
from ..hub.signals import Signals, heeded
from ..processes import logs
from ..processes.control import Control
from ..processes.systemd import notify
from ..security.control import AccessControl
from ..settings import Settings
from ..sockets.context import end_context, make_context
from ..sockets.router import Router
from ..sockets.tuning import raise_descriptor_limit
from .credit import CreditProxy
from .native import NativeProxy

log = Log("proxy")


class ProxyService:
    """Binds both sides; ``run`` passes messages.

    Args:
        frontend, backend: endpoints, for clients and for servers.
        round_robin: whether libzmq's own proxy does it.
        settings, backend_settings: of the two sockets.
    Raises:
        BindError: one of them cannot be served; nothing is left open.
        ConfigError: a key file that cannot be read, for instance.
    """

    def __init__(
        self,
        frontend: tuple[str, ...],
        backend: tuple[str, ...],
        round_robin: bool,
        settings: Settings,
        backend_settings: Settings,
    ) -> None:
        raise_descriptor_limit(settings.descriptor_limit)
        self._settings = settings
        with ExitStack() as unless_all:
            self._access = AccessControl(settings), AccessControl(backend_settings)
            self._front = self._router(unless_all, settings, self._access[0])
            self._back = self._router(unless_all, backend_settings, self._access[1], round_robin)
            for router, endpoints in ((self._front, frontend), (self._back, backend)):
                for endpoint in endpoints:
                    router.bind(endpoint)
            self._closing = unless_all.pop_all()
        front, back = self._front, self._back
        self._proxy = (
            NativeProxy(front, back)
            if round_robin
            else CreditProxy(front, back, settings.max_frames)
        )
        self._draining = False
        self._begun = monotonic()

    @staticmethod
    def _router(
        closing: ExitStack, settings: Settings, access: AccessControl, dealer: bool = False
    ) -> Router:
        """Each in a context of its own: there is one ZAP handler in a context, and one of the sides
        may need another."""
        context = make_context(settings)
        closing.callback(end_context, context, settings.linger)
        router = (
            Router(context, settings, zmq.DEALER, access)
            if dealer
            else Router(context, settings, access=access)
        )
        closing.callback(router.close)
        return router

    @property
    def endpoints(self) -> list[str]:
        """Where clients connect, with real ports."""
        return self._front.endpoints

    @property
    def backend(self) -> list[str]:
        """Where servers connect, with real ports."""
        return self._back.endpoints

    def run(self, control_path: str | None, announce: Callable[[], None]) -> None:
        """Pass messages until a signal ends it. **Blocks** the calling greenlet; for the main
        thread.

        Args:
            control_path: of the socket that ``green-router stats`` asks; None for one named after
                the process.
            announce: called as soon as it does.
        Raises:
            ConfigError: there can be no socket at that path.
        """
        loop = get_hub().loop

        def note(number: int) -> None:
            loop.run_callback_threadsafe(gevent.spawn, self._obey, number)

        with self._closing as closing:
            Signals(
                note, *heeded(signal.SIGTERM, signal.SIGINT), signal.SIGUSR1, signal.SIGHUP
            ).catch()
            try:
                closing.callback(Control(control_path, {"stats": self.stats}).close)
            except ConfigError as error:
                if control_path is not None:
                    raise
                log.warning("control socket unavailable, so stats will not work: %s", error)
            announce()
            notify("READY=1")
            self._proxy.run()

    def stats(self) -> dict[str, Any]:
        """Return what was passed on, and how the servers are; plain data."""
        return {
            "proxy": self._proxy.stats(),
            "pid": os.getpid(),
            "state": "stopping" if self._draining else "serving",
            "uptime": monotonic() - self._begun,
            "endpoints": self.endpoints,
            "backend": self.backend,
        }

    def _obey(self, number: int) -> None:
        """A greenlet, for each signal."""
        name = signal.Signals(number).name
        if number == signal.SIGUSR1:
            logs.reopen()
            log.info("%s: opened the log again", name)
        elif number == signal.SIGHUP:
            log.info("%s: reading the keys again", name)
            for access in self._access:
                access.reload()
        elif self._draining:
            log.info("%s: ending at once", name)
            self._proxy.end()
        else:
            self._draining = True
            log.info("%s: draining, for %g s at the most", name, self._settings.grace)
            notify("STOPPING=1")
            left = self._proxy.drain(self._settings.grace)
            if left:
                log.warning("ending: no reply has come to %d requests", left)
