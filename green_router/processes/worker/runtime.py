"""The run of a worker process once it is configured: the application is loaded, works, and ends.

Rules of this file
  1. It is imported after the standard library was patched (worker/main.py).
  2. What the supervisor says is heard in the hub, between all other things, so that an answer shows
     that the loop turns.
  3. Nothing here decides when a worker goes: it asks (``recycle``), and the supervisor sees to it.
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
from typing import Any, Protocol

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent

from ...errors import ApplicationError, BindError, ConfigError
from ...hub import forked
from ...hub.guarded import guarded
from ...hub.log import Log
from ...hub.signals import Signals, heeded
from ...offload.engines import ENGINES
from ...serving.until_ready import until_ready
from ...settings import Settings
from ...settings.access import with_code
from .. import interpreter, logs
from ..channel import protocol
from ..channel.protocol import Message, Route, Routes
from ..channel.stream import Channel
from ..supervisor.reloader import WATCH_EVERY, Sources
from .activity import Activity
from .direct_worker import DirectWorker, counted
from .front_worker import FrontWorker

log = Log("worker")

LAST_WORDS_WITHIN = 5.0
"""Seconds that the supervisor has to take what was said at the end. It takes it at once, unless it
is stopped."""

REPLACE_ME = (signal.SIGTERM, signal.SIGINT)
"""Signals by which somebody wants this worker to go: the supervisor sees to it, and starts
another."""

NOT_MINE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that the supervisor obeys. They come here too when a service manager sends them to all
processes, and the worker survives them from its beginning (worker/main.py)."""


class Worker(Protocol):
    """The work of a worker: requests that it is given, or clients of its own."""

    @property
    def routes(self) -> tuple[Route, ...]:
        """The table of what it is told, beside requests."""

    def receive(self, routes: Routes, batch: list[Message]) -> None:
        """HUB. Take what the supervisor says; ``routes`` has the rest."""

    def stats(self) -> dict[str, Any] | None:
        """Return its ledger, where it keeps one."""

    def hurry(self, seconds: float) -> None:
        """HUB. End within that time."""

    def end(self, seconds: float | None) -> dict[str, Any] | None:
        """Finish what it has, and return its last ledger. **Blocks**."""


class Runtime:
    """Boots, works, ends."""

    def __init__(self, channel_fd: int, stacks_fd: int, config: dict[str, Any]) -> None:
        self._config, self._stacks_fd = config, stacks_fd
        self._booting = getcurrent()
        self._ended = Event()
        self._error: BaseException | None = None
        self._loop = get_hub().loop
        self._sources = Sources() if config["watch"] else None
        self._work: Worker | None = None
        self._routes = Routes(
            protocol.ping.to(self._ping),
            protocol.stop.to(self._stop),
            protocol.where.to(self._where),
            protocol.reopen_logs.to(logs.reopen),
        )
        self._channel = Channel(
            channel_fd, guarded(self._received, self._crashed), self._supervisor_gone
        )
        self._activity = Activity(self._say)
        self._stop_seconds: float | None = None
        self._at_boot = {number: signal.getsignal(number) for number in NOT_MINE}
        forked.arm(self)

    def run(self) -> None:
        """Boot, and work until the end. **Blocks** the main greenlet."""
        Signals(self._noted, *heeded(*REPLACE_ME), *NOT_MINE).catch()
        try:
            self._set_up_log()
            self._work = self._boot()
            self._routes.add(*self._work.routes)
            self._say(protocol.ready(self._new_files()))
        except BaseException as error:
            self._fail(error)
            return
        self._ended.wait()
        snapshot = self._work.end(self._stop_seconds)
        self._say_last(protocol.bye(snapshot))
        if self._error is not None:
            raise self._error

    def _set_up_log(self) -> None:
        level, style, path = self._config["log"]
        set_up = partial(
            logs.set_up,
            level,
            style,
            who=f"worker {self._config['slot']}",
            worker=self._config["slot"],
        )
        try:
            set_up(path)
        except OSError as error:  # the supervisor could; its worker is needed more than its log
            set_up(None)
            log.error("%s cannot be opened (%s): logging to standard error", path, error.strerror)

    def _boot(self) -> Worker:
        config = self._config
        ENGINES.default = config["offload"]
        load = pkgutil.resolve_name(config["loader"])
        interpreter.share_among_threads(config["switch_interval"])
        handler = load(config["application"])
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        settings = with_code(config["settings"], load)
        interpreter.settle(*config["gc"])
        if config["until_ready"]:
            handler = until_ready(handler)
        work: Worker
        if config["endpoints"] is None:
            work = FrontWorker(handler, name, Settings(**settings), self._channel, self._crashed)
        else:
            limit = config["max_requests"]
            handler = (
                handler
                if limit is None
                else counted(handler, limit, partial(self._say, protocol.recycle()))
            )
            work = DirectWorker(
                handler, settings, config["endpoints"], config["connect"], self._crashed, self._say
            )
        if self._sources is not None:
            gevent.spawn(guarded(self._tell_files, self._crashed))
        return work

    def _new_files(self) -> list[str]:
        return self._sources.new() if self._sources is not None else []

    def _tell_files(self) -> None:
        """As long as there is a channel, where files are watched: those that a handler imports come
        later."""
        while not self._channel.closed:
            gevent.sleep(WATCH_EVERY)
            files = self._new_files()
            if files:
                self._say(protocol.files_loaded(files))

    def _fail(self, error: BaseException) -> None:
        """Say why the worker cannot begin, as plain data, and end."""
        if isinstance(error, BindError):
            said: tuple[str, tuple[Any, ...]] = (
                BindError.code,
                (error.endpoint, error.reason, error.errno),
            )
        elif isinstance(error, ConfigError):
            said = ConfigError.code, (error.setting, repr(error.value), error.rule)
        elif isinstance(error, ApplicationError):
            said = ApplicationError.code, (str(error),)
        else:
            raise error
        self._say_last(protocol.failed(*said, self._new_files()))
        raise SystemExit(1)

    def _say(self, message: Message) -> None:
        self._channel.send([message])

    def _say_last(self, message: Message) -> None:
        """**Blocks** until the kernel has it: what waits here ends with the process."""
        self._say(message)
        until = monotonic() + LAST_WORDS_WITHIN
        while self._channel.waiting_bytes and monotonic() < until:
            gevent.sleep(0.001)

    # -- what the supervisor says ------------------------------------------------------------------

    def _received(self, batch: list[Message]) -> None:
        """HUB."""
        if self._work is None:
            self._routes.take_all(batch)
        else:
            self._work.receive(self._routes, batch)

    def _ping(self, number: int) -> None:
        self._say(protocol.pong(number, self._work.stats() if self._work is not None else None))
        self._activity.asked()

    def _stop(self, seconds: float) -> None:
        self._stop_seconds = seconds
        self._ended.set()
        if self._work is not None:
            self._work.hurry(seconds)

    def _where(self) -> None:
        stack = "".join(traceback.format_stack(self._booting.gr_frame))
        os.write(self._stacks_fd, f"the greenlet that boots waits here:\n{stack}".encode())

    def _supervisor_gone(self) -> None:
        """HUB. The channel has ended."""
        unexpected = not self._ended.is_set()
        self._stop_seconds = 0
        self._ended.set()
        if unexpected:
            log.warning("the supervisor is gone: ending")

    def _noted(self, number: int) -> None:
        """SIGNAL."""
        if number in REPLACE_ME:
            self._loop.run_callback_threadsafe(self._say, protocol.recycle())
        elif number == signal.SIGUSR1:
            self._loop.run_callback_threadsafe(logs.reopen)

    def _crashed(self, error: BaseException) -> None:
        """A handler raised SystemExit or KeyboardInterrupt, or this package has a bug. What is said
        leaves first."""
        if self._error is None:
            self._error = error
            self._stop_seconds = 0
            self._say(protocol.closing())
            self._loop.run_callback(self._loop.run_callback, self._ended.set)

    # -- in a forked child -------------------------------------------------------------------------

    def disarm(self) -> None:
        """In a forked child, when its signals mean again what they meant before ``run``: it is no
        worker."""
        for number, handler in self._at_boot.items():
            if signal.getsignal(number) is handler:
                signal.signal(number, signal.SIG_DFL)
        faulthandler.disable()  # it would write into the worker's file
        os.close(self._stacks_fd)
