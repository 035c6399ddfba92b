"""What goes on in a worker process once it knows what to do: the application is loaded, works, and ends.

Rules of this file
  1. It is imported after the standard library was patched (worker/main.py).
  2. What the supervisor says is heard in the hub, between all other things, so that an answer shows that the loop turns.
  3. Nothing here decides when a worker goes: it asks (``worn``), and the supervisor sees to it.
  4. It does not end before what it has said has left.
"""
from __future__ import annotations

import faulthandler
import os
import pkgutil
import signal
import traceback
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent

from ...errors import ApplicationError, BindError, ConfigError
from ...hub import forked
from ...hub.guarded import guarded
from ...hub.log import Log
from ...hub.signals import Signals, heeded
from ...serving.until_ready import until_ready
from ...settings import Settings
from .. import collector, logs
from ..channel.stream import Line, Message
from ..supervisor.reloader import WATCH_EVERY, Sources
from .activity import Rest
from .direct_worker import Stall, counted
from .front_worker import Workshop

log = Log("worker")

LAST_WORDS_WITHIN = 5.0
"""Seconds that the supervisor has to take what was said at the end. It takes it at once, unless it is stopped."""

REPLACE_ME = (signal.SIGTERM, signal.SIGINT)
"""Signals by which somebody wants this worker to go: the supervisor sees to it, and starts another."""

NOT_MINE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that the supervisor obeys. They come here too when a service manager sends them to all processes, and the worker
survives them from its beginning (worker/main.py)."""


class Work:
    """Boots, works, ends."""

    def __init__(self, line_fd: int, stacks_fd: int, orders: dict[str, Any]) -> None:
        self._orders, self._stacks_fd = orders, stacks_fd
        self._booting = getcurrent()
        self._ended = Event()
        self._error: BaseException | None = None
        self._loop = get_hub().loop
        self._sources = Sources() if orders["watch"] else None
        self._work: Workshop | Stall | None = None
        self._line = Line(line_fd, guarded(self._received, self._crashed), self._supervisor_gone)
        self._rest = Rest(self._say)
        self._stop_seconds: float | None = None
        self._at_boot = {number: signal.getsignal(number) for number in NOT_MINE}
        forked.arm(self)

    def run(self) -> None:
        """Boot, and work until the end. **Blocks** the main greenlet."""
        Signals(self._noted, *heeded(*REPLACE_ME), *NOT_MINE).catch()
        try:
            self._set_up_log()
            self._work = self._boot()
        except BaseException as error:
            self._fail(error)
            return
        self._ended.wait()
        snapshot = self._work.end(self._stop_seconds)
        self._say_last("bye", snapshot)
        if self._error is not None:
            raise self._error

    def _set_up_log(self) -> None:
        level, style, path = self._orders["log"]
        set_up = partial(logs.set_up, level, style, who=f"worker {self._orders['slot']}", worker=self._orders["slot"])
        try:
            set_up(path)
        except OSError as error:        # the supervisor could; its worker is needed more than its log
            set_up(None)
            log.error("%s cannot be opened (%s): logging to standard error", path, error.strerror)

    def _boot(self) -> Workshop | Stall:
        orders = self._orders
        load = pkgutil.resolve_name(orders["loader"])
        handler = load(orders["application"])
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        settings = dict(orders["settings"])
        if settings.get("on_error") is not None:
            settings["on_error"] = load(settings["on_error"])
        collector.settle(*orders["gc"])
        if orders["until_ready"]:
            handler = until_ready(handler)
        work: Workshop | Stall
        if orders["endpoints"] is None:
            work = Workshop(handler, name, Settings(**settings), self._crashed)
            work.line = self._line
        else:
            limit = orders["max_requests"]
            handler = handler if limit is None else counted(handler, limit, partial(self._say, "worn"))
            work = Stall(handler, settings, orders["endpoints"], self._crashed, self._say)
        self._say("ready", self._new_files())
        if self._sources is not None:
            gevent.spawn(guarded(self._tell_files, self._crashed))
        return work

    def _new_files(self) -> list[str]:
        return self._sources.new() if self._sources is not None else []

    def _tell_files(self) -> None:
        """As long as there is a line, where files are watched: those that a handler imports come later."""
        while not self._line.closed:
            gevent.sleep(WATCH_EVERY)
            files = self._new_files()
            if files:
                self._say("files", files)

    def _fail(self, error: BaseException) -> None:
        """It cannot begin: say why, as plain data, and end."""
        if isinstance(error, BindError):
            said: tuple[str, tuple[Any, ...]] = BindError.code, (error.endpoint, error.reason, error.errno)
        elif isinstance(error, ConfigError):
            said = ConfigError.code, (error.setting, repr(error.value), error.rule)
        elif isinstance(error, ApplicationError):
            said = ApplicationError.code, (str(error),)
        else:
            raise error
        self._say_last("failed", *said, self._new_files())
        raise SystemExit(1)

    def _say(self, *message: Any) -> None:
        self._line.send([message])

    def _say_last(self, *message: Any) -> None:
        """**Blocks** until the kernel has it: what waits here ends with the process."""
        self._say(*message)
        until = monotonic() + LAST_WORDS_WITHIN
        while self._line.waiting_bytes and monotonic() < until:
            gevent.sleep(0.001)

    # -- what the supervisor says ----------------------------------------------------------------------------------

    def _received(self, batch: list[Message]) -> None:
        """HUB."""
        for message in self._work.received(batch) if isinstance(self._work, Workshop) else batch:
            match message:
                case ("ping", number):
                    self._say("pong", number, self._work.stats() if isinstance(self._work, Stall) else None)
                    self._rest.asked()
                case ("stop", seconds):
                    self._stop_seconds = seconds
                    self._ended.set()
                    if self._work is not None:
                        self._work.hurry(seconds)
                case ("serve",) if isinstance(self._work, Stall):
                    gevent.spawn(guarded(self._work.open, self._crashed))
                case ("reopen",):
                    logs.reopen()
                case ("where",):
                    stack = "".join(traceback.format_stack(self._booting.gr_frame))
                    os.write(self._stacks_fd, f"the greenlet that boots waits here:\n{stack}".encode())

    def _supervisor_gone(self) -> None:
        """HUB. The line has ended."""
        unexpected = not self._ended.is_set()
        self._stop_seconds = 0
        self._ended.set()
        if unexpected:
            log.warning("the supervisor is gone: ending")

    def _noted(self, number: int) -> None:
        """SIGNAL."""
        if number in REPLACE_ME:
            self._loop.run_callback_threadsafe(self._say, "worn")
        elif number == signal.SIGUSR1:
            self._loop.run_callback_threadsafe(logs.reopen)

    def _crashed(self, error: BaseException) -> None:
        """A handler raised SystemExit or KeyboardInterrupt, or this package has a bug. What is said leaves first."""
        if self._error is None:
            self._error = error
            self._stop_seconds = 0
            self._say("going")
            self._loop.run_callback(self._loop.run_callback, self._ended.set)

    # -- in a forked child -----------------------------------------------------------------------------------------

    def disarm(self) -> None:
        """In a forked child, when its signals mean again what they meant before ``run``: it is no worker."""
        for number, handler in self._at_boot.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()                  # it would write into the worker's file
        os.close(self._stacks_fd)
