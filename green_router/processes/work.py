"""What goes on in a worker process once it knows what to do: the application is loaded, works, and ends.

Rules of this file
  1. It is imported after the standard library was patched (worker.py).
  2. What the supervisor says is heard in the hub, between all other things, so that an answer shows that the loop turns.
  3. Nothing here decides when a worker goes: it asks (``worn``), and the supervisor sees to it.
"""
from __future__ import annotations

import logging
import os
import pkgutil
import signal
import sys
from collections.abc import Callable
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from ..errors import ApplicationError, BindError, ConfigError
from ..serving.adapters import until_ready
from ..serving.server import Server
from ..serving.signals import Signals
from ..settings import Settings
from . import logs
from .line import Line, Message
from .workshop import Workshop

log = logging.getLogger("green_router.worker")


class Work:
    """Boots, works, ends."""

    def __init__(self, line_fd: int, orders: dict[str, Any]) -> None:
        self._orders = orders
        self._ended = Event()
        self._error: BaseException | None = None
        self._loop = get_hub().loop
        self._work: Workshop | Stall | None = None
        self._line = Line(line_fd, self._received, self._supervisor_gone)
        self._stop_seconds: float | None = None

    def run(self) -> None:
        """Boot, and work until the end. **Blocks** the main greenlet."""
        signals = Signals(self._noted, signal.SIGTERM)
        signals.catch()
        try:
            self._work = self._boot()
        except BaseException as error:
            self._fail(error)
            return
        self._ended.wait()
        snapshot = self._work.end(self._stop_seconds) if isinstance(self._work, Stall) else None
        self._line.send([("bye", snapshot)])
        if self._error is not None:
            raise self._error

    def _boot(self) -> Workshop | Stall:
        orders = self._orders
        load = pkgutil.resolve_name(orders["loader"])
        handler = load(orders["application"])
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        settings = dict(orders["settings"])
        if settings.get("on_error") is not None:
            settings["on_error"] = load(settings["on_error"])
        if orders["until_ready"]:
            handler = until_ready(handler)
        work: Workshop | Stall
        if orders["endpoints"] is None:
            work = Workshop(handler, name, Settings(**settings), self._crashed)
            work.line = self._line
            endpoints: tuple[str, ...] = ()
        else:
            limit = orders["max_requests"]
            work = Stall(handler if limit is None else counted(handler, limit, self._worn), settings, self._crashed)
            endpoints = work.open(orders["endpoints"])
        self._line.send([("ready", endpoints, loaded_files() if orders["watch"] else [])])
        return work

    def _fail(self, error: BaseException) -> None:
        """It cannot begin: say why, as plain data, and end."""
        files = loaded_files() if self._orders["watch"] else []
        if isinstance(error, BindError):
            said: tuple[str, tuple[Any, ...]] = BindError.code, (error.endpoint, error.reason, error.errno)
        elif isinstance(error, ConfigError):
            said = ConfigError.code, (error.setting, repr(error.value), error.rule)
        elif isinstance(error, ApplicationError):
            said = ApplicationError.code, (str(error),)
        else:
            raise error
        self._line.send([("failed", *said, files)])
        self._line.close()
        raise SystemExit(1)

    # -- what the supervisor says ----------------------------------------------------------------------------------

    def _received(self, batch: list[Message]) -> None:
        """HUB."""
        for message in self._work.received(batch) if isinstance(self._work, Workshop) else batch:
            match message:
                case ("ping", number):
                    self._line.send([("pong", number, self._work.stats() if isinstance(self._work, Stall) else None)])
                case ("stop", seconds):
                    self._stop_seconds = seconds
                    self._ended.set()
                    if isinstance(self._work, Stall):
                        self._work.hurry(seconds)
                case ("reopen",):
                    logs.reopen()

    def _supervisor_gone(self) -> None:
        """HUB. The line has ended."""
        if not self._ended.is_set():
            log.warning("the supervisor is gone: ending")
        self._stop_seconds = 0
        self._ended.set()

    def _worn(self) -> None:
        """Ask to be replaced."""
        self._line.send([("worn",)])

    def _noted(self, number: int) -> None:
        """SIGNAL. Somebody wants this worker to go: the supervisor sees to it, and starts another."""
        self._loop.run_callback_threadsafe(self._worn)

    def _crashed(self, error: BaseException) -> None:
        """A handler raised SystemExit or KeyboardInterrupt, or this package has a bug. What is said leaves first."""
        if self._error is None:
            self._error = error
            self._stop_seconds = 0
            self._loop.run_callback(self._loop.run_callback, self._ended.set)


class StallServer(Server):
    """A Server that tells when it has crashed."""

    def __init__(self, handler: Callable[[Any], Any], settings: dict[str, Any], crashed: Callable[[BaseException], None]) -> None:
        super().__init__(handler, **settings)
        self._crashed = crashed

    def _crash(self, error: BaseException) -> None:
        super()._crash(error)
        self._crashed(error)


class Stall:
    """Serves clients itself, behind listening sockets of the supervisor: a worker of ``--dispatch direct``."""

    def __init__(self, handler: Callable[[Any], Any], settings: dict[str, Any], crashed: Callable[[BaseException], None]) -> None:
        self._server = StallServer(handler, settings, crashed)

    def open(self, listeners: list[tuple[str, int]]) -> tuple[str, ...]:
        """Serve; returns the endpoints with their real ports."""
        for endpoint, descriptor in listeners:
            self._server.adopt(endpoint, descriptor)
        self._server.start()
        return self._server.endpoints

    def stats(self) -> dict[str, Any]:
        """What the server has counted."""
        return self._server.stats()

    def hurry(self, seconds: float) -> None:
        """HUB. Stop within that time, also when it is stopping already."""
        gevent.spawn(self._server.stop, seconds)

    def end(self, seconds: float | None) -> dict[str, Any]:
        """Finish what was taken. **Blocks**."""
        self._server.stop(seconds)
        return self._server.stats()


def counted(handler: Callable[[Any], Any], limit: int, worn: Callable[[], None]) -> Callable[[Any], Any]:
    """The handler; after that many requests ``worn`` is called, once."""
    left = limit

    def handle(request: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            worn()
        return handler(request)

    handle.__qualname__ = getattr(handler, "__qualname__", type(handler).__qualname__)
    return handle


def loaded_files() -> list[str]:
    """The source files of the application's modules: those that were not installed."""
    own = os.path.dirname(os.path.dirname(__file__))
    outside = tuple({os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix, own)})
    named = [getattr(module, "__file__", None) for module in list(sys.modules.values())]
    files = {os.path.realpath(name) for name in named if name}
    return sorted(path for path in files if path.endswith(".py") and not path.startswith(outside))

