"""The run of a worker process once it is configured: the application is loaded, works, and ends.

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
from ...settings.access import with_code
from .. import collector, logs
from ..channel.stream import Channel, Message
from ..supervisor.reloader import WATCH_EVERY, Sources
from .activity import Activity
from .direct_worker import DirectWorker, counted
from .front_worker import FrontWorker

log = Log("worker")

LAST_WORDS_WITHIN = 5.0
"""Seconds that the supervisor has to take what was said at the end. It takes it at once, unless it is stopped."""

REPLACE_ME = (signal.SIGTERM, signal.SIGINT)
"""Signals by which somebody wants this worker to go: the supervisor sees to it, and starts another."""

NOT_MINE = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that the supervisor obeys. They come here too when a service manager sends them to all processes, and the worker
survives them from its beginning (worker/main.py)."""


class Runtime:
    """Boots, works, ends."""

    def __init__(self, line_fd: int, stacks_fd: int, config: dict[str, Any]) -> None:
        self._config, self._stacks_fd = config, stacks_fd
        self._booting = getcurrent()
        self._ended = Event()
        self._error: BaseException | None = None
        self._loop = get_hub().loop
        self._sources = Sources() if config["watch"] else None
        self._work: FrontWorker | DirectWorker | None = None
        self._channel = Channel(line_fd, guarded(self._received, self._crashed), self._supervisor_gone)
        self._rest = Activity(self._say)
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
        level, style, path = self._config["log"]
        set_up = partial(logs.set_up, level, style, who=f"worker {self._config['slot']}", worker=self._config["slot"])
        try:
            set_up(path)
        except OSError as error:        # the supervisor could; its worker is needed more than its log
            set_up(None)
            log.error("%s cannot be opened (%s): logging to standard error", path, error.strerror)

    def _boot(self) -> FrontWorker | DirectWorker:
        config = self._config
        load = pkgutil.resolve_name(config["loader"])
        handler = load(config["application"])
        name = getattr(handler, "__qualname__", None) or type(handler).__qualname__
        settings = with_code(config["settings"], load)
        collector.settle(*config["gc"])
        if config["until_ready"]:
            handler = until_ready(handler)
        work: FrontWorker | DirectWorker
        if config["endpoints"] is None:
            work = FrontWorker(handler, name, Settings(**settings), self._crashed)
            work.channel = self._channel
        else:
            limit = config["max_requests"]
            handler = handler if limit is None else counted(handler, limit, partial(self._say, "worn"))
            work = DirectWorker(handler, settings, config["endpoints"], config["connect"], self._crashed, self._say)
        self._say("ready", self._new_files())
        if self._sources is not None:
            gevent.spawn(guarded(self._tell_files, self._crashed))
        return work

    def _new_files(self) -> list[str]:
        return self._sources.new() if self._sources is not None else []

    def _tell_files(self) -> None:
        """As long as there is a channel, where files are watched: those that a handler imports come later."""
        while not self._channel.closed:
            gevent.sleep(WATCH_EVERY)
            files = self._new_files()
            if files:
                self._say("files", files)

    def _fail(self, error: BaseException) -> None:
        """Say why the worker cannot begin, as plain data, and end."""
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
        self._channel.send([message])

    def _say_last(self, *message: Any) -> None:
        """**Blocks** until the kernel has it: what waits here ends with the process."""
        self._say(*message)
        until = monotonic() + LAST_WORDS_WITHIN
        while self._channel.waiting_bytes and monotonic() < until:
            gevent.sleep(0.001)

    # -- what the supervisor says ----------------------------------------------------------------------------------

    def _received(self, batch: list[Message]) -> None:
        """HUB."""
        for message in self._work.received(batch) if isinstance(self._work, FrontWorker) else batch:
            match message:
                case ("ping", number):
                    self._say("pong", number, self._work.stats() if isinstance(self._work, DirectWorker) else None)
                    self._rest.asked()
                case ("stop", seconds):
                    self._stop_seconds = seconds
                    self._ended.set()
                    if self._work is not None:
                        self._work.hurry(seconds)
                case ("serve",) if isinstance(self._work, DirectWorker):
                    gevent.spawn(guarded(self._work.open, self._crashed))
                case ("reopen",):
                    logs.reopen()
                case ("where",):
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
