"""The supervisor: a service with worker processes, from its first worker to its last.

Rules of this file
  1. Signal handlers and callbacks of the hub only note what has happened; one greenlet, in ``run``,
     acts (actions.py). Nothing that it does waits.
  2. Nothing is served before every worker has booted; what goes wrong until then ends the whole,
     with its error.
  3. No worker outlives ``run``.

Who the workers are, and what becomes of them, is in pool.py. In the front mode the supervisor's
process is the serving one: it has the ROUTER, and no code of the application.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic
from typing import Any

import gevent
from gevent.hub import get_hub
from greenlet import GreenletExit

from ...errors import ConfigError, GreenRouterError
from ...hub.log import Log
from ...hub.signals import ENDING, Signals, heeded
from ...serving.server import Server
from ...serving.shutdown import say_drain
from ...settings import Service, Settings
from ...settings.access import without_code
from .. import logs
from ..channel import protocol
from ..control import Control
from ..front.dispatcher import Dispatcher
from ..front.server import Front
from ..systemd import notify
from . import liveness
from .actions import Action, ActionQueue
from .pool import WorkerPool
from .reloader import Reloader

log = Log("supervisor")

LEFT_OUT = ("on_error", "on_disconnect", "block_warning")
"""Settings that concern the handler: in the front mode they hold in the workers."""


class Supervisor:
    """Serves an application with worker processes.

    Args:
        loader: who loads it in a worker, ``module:function`` (the command line's).
        service, settings: settings by name, as ``Service`` and ``Settings`` take them; ``on_error``
            is a target too.
        announce: called with the endpoints as soon as they are served.
    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(
        self,
        loader: str,
        service: dict[str, Any],
        settings: dict[str, Any],
        announce: Callable[[tuple[str, ...]], None],
    ) -> None:
        self._service = Service(**service)
        if self._service.application is None:
            raise ConfigError("application", None, "given")
        self._application = self._service.application
        self._settings = Settings(**without_code(settings))
        self._explains = settings.get("on_error") is not None
        self._tells = settings.get("on_disconnect") is not None
        self._announce = announce
        self._actions = ActionQueue(lambda: self._pool.serving and not self._stopping)
        self._changes = Reloader(self._changed)
        self._pool = WorkerPool(
            loader,
            self._service,
            settings,
            self._settings,
            self._actions,
            self._changes,
            self._open_if_complete,
            self._fail,
        )
        self._front: Server | None = None
        self._endpoints: tuple[str, ...] = ()
        self._stopping = self._workers_stop = self._reload_then = False
        self._until = inf
        self._error: BaseException | None = None
        self._signals = Signals(self._noted, *heeded(*ENDING), *(set(self._meanings) - set(ENDING)))
        self._greenlets: list[gevent.Greenlet[..., Any]] = []
        self._started_at = monotonic()

    # -- the loop ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until a signal ends it. **Blocks** the calling greenlet; for the main thread of a
        process that ends then: no signal changes its exit code any more.

        Raises:
            ConfigError, BindError, ApplicationError: it could not begin.
        """
        hub: Any = get_hub()
        self._loop = hub.loop
        hub.handle_error = partial(self._unforeseen, hub.handle_error)
        self._signals.catch()
        control: Control | None = None
        slots = self._pool.slots
        try:
            control = self._open_control()
            self._endpoints = self._pool.begin()
            if self._service.reload:
                self._greenlets.append(gevent.spawn(self._changes.watch))
            while not self._workers_stop or slots.children:
                self._actions.act()
        finally:
            self._stopping = True
            gevent.killall(self._greenlets)
            self._pool.kill()
            while slots.children:
                self._actions.act()
            self._actions.close()
            if self._front is not None:
                self._front.stop(0)
            self._pool.close()
            if control is not None:
                control.close()
            for number in self._meanings:
                signal.signal(number, signal.SIG_IGN)
            del hub.handle_error
        if self._pool.serving:
            self._say_total()
        if self._error is not None:
            raise self._error

    def _unforeseen(
        self, shown: Callable[..., None], context: object, kind: Any, error: Any, trace: Any
    ) -> None:
        """HUB, in the place of its ``handle_error``: a callback or a greenlet has raised. All are
        this package's: no code of the application runs in this process. What it should have done
        nobody would do, so the service ends."""
        shown(context, kind, error, trace)
        if not issubclass(kind, GreenletExit):
            self._actions.do(
                partial(self._fail, error if isinstance(error, BaseException) else kind(error))
            )

    def _open_control(self) -> Control | None:
        try:
            return Control(self._service.control, {"stats": self.stats})
        except ConfigError as error:
            if self._service.control is not None:
                raise
            log.warning(
                "control socket unavailable, so green-router stats will not work: %s", error
            )
            return None

    def _changed(self, paths: list[str]) -> None:
        log.info("reloading: %s changed", ", ".join(map(os.path.relpath, paths)))
        self._actions.do(self.reload)

    def _say_total(self) -> None:
        """The last line of the log: what became of everything."""
        total = self._total()
        fates = ", ".join(f"{number} {fate}" for fate, number in total["fates"].items() if number)
        log.info(
            "ended; all workers together: %d received, %s",
            total["received"],
            fates or "nothing else",
        )

    # -- the beginning -----------------------------------------------------------------------------

    def _open_if_complete(self) -> None:
        """Serve, as soon as all are ready for the first time."""
        if self._pool.serving or self._stopping or not self._pool.slots.complete:
            return
        try:
            self._pool.serve(self._open_front())
        except GreenRouterError as error:
            self._fail(error)
            return
        notify(
            "READY=1",
            f"STATUS={len(self._pool.slots.all)} workers serve {' '.join(self._endpoints)}",
        )
        # A greenlet runs when the loop waits, and then signals are handled: who reads a line may
        # signal at once.
        gevent.spawn(self._announce, self._endpoints)
        if self._reload_then:
            self.reload()

    def _open_front(self) -> Dispatcher | None:
        """Serve here, unless workers serve clients themselves."""
        if self._service.dispatch == "direct":
            return None
        settings = {
            name: value for name, value in vars(self._settings).items() if name not in LEFT_OUT
        }
        front = Front(
            self._application,
            self._service.worker_window,
            self._service.retry_lost,
            self._explains,
            self._tells,
            lambda error: self._actions.do(partial(self._fail, error)),
            settings,
        )
        server = Server(front.handler, front.parts, **front.settings)
        server.bind(*self._service.bind)
        server.connect(*self._service.connect or ())
        server.start()
        self._front, self._endpoints = server, server.endpoints
        return front.dispatcher

    # -- the end -----------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """End, because the service cannot go on, and let ``run`` raise the error."""
        self._error = self._error or error
        self.stop(0)

    def stop(self, seconds: float | None = None) -> None:
        """In the loop. Finish what was taken, then end; a second call may shorten the time.

        Args:
            seconds: for what is in hand; None for ``grace``.
        """
        if not self._stopping:
            notify("STOPPING=1")
        self._stopping = True
        self._until = min(
            self._until, monotonic() + (self._settings.grace if seconds is None else seconds)
        )
        self._pool.stop_replacing()
        if self._front is not None:
            gevent.spawn(self._stop_front, self._front, seconds)
        else:
            self._stop_workers()

    def _stop_front(self, front: Server, seconds: float | None) -> None:
        front.stop(seconds)
        self._actions.do(self._stop_workers)

    def _stop_workers(self) -> None:
        """In the loop. What is left of the time is for handlers at work after their replies, or for
        all where workers serve."""
        self._workers_stop = True
        self._pool.stop(max(0.0, self._until - monotonic()))

    # -- meanwhile ---------------------------------------------------------------------------------

    def reload(self) -> None:
        """In the loop. Replace all workers, one after the other; where not all are there yet, as
        soon as they are."""
        if self._front is not None and self._front.access.has_directory:
            self._front.access.reload()
        elif self._service.dispatch == "direct":
            self._pool.tell_running(protocol.read_keys())  # they stay until they are replaced
        if not self._pool.serving:
            self._reload_then = True
        elif not self._stopping:
            self._pool.replacer.roll()

    def add_worker(self) -> None:
        """In the loop. One more."""
        if not self._stopping:
            self._pool.add()

    def remove_worker(self) -> None:
        """In the loop. One fewer; the last stays."""
        if not self._stopping:
            self._pool.remove()
            self._open_if_complete()

    def reopen_logs(self) -> None:
        """In the loop. Go on in new files, in all processes."""
        logs.reopen()
        self._pool.tell(protocol.reopen_logs())

    def stats(self) -> dict[str, Any]:
        """Return the statistics of all workers together and of each. **Blocks**, half a second at
        the most.

        Returns:
            Plain data: ``sum``, a ledger's snapshot; ``workers``, a row each, with whether it
            ``answers``.
        """
        slots = self._pool.slots
        # First: an answer has the worker's latest ledger with it.
        answering = liveness.answering(slots)
        return {
            "pid": os.getpid(),
            "dispatch": self._service.dispatch,
            "endpoints": list(self._endpoints),
            "state": "stopping"
            if self._stopping
            else "serving"
            if self._pool.serving
            else "starting",
            "uptime": monotonic() - self._started_at,
            "wanted": len(slots.all),
            "sum": self._total(),
            "workers": slots.rows(answering),
        }

    def _total(self) -> dict[str, Any]:
        """The ledger of all."""
        return self._pool.slots.total() if self._front is None else self._front.stats()

    # -- signals -----------------------------------------------------------------------------------

    @property
    def _meanings(self) -> dict[int, tuple[str, Action]]:
        """Return the meaning of each signal, in words and deeds."""
        return {
            signal.SIGTERM: ("draining", self._drain),
            signal.SIGINT: ("draining", self._drain),
            signal.SIGHUP: ("reloading the application", self.reload),
            signal.SIGTTIN: ("one worker more", self.add_worker),
            signal.SIGTTOU: ("one worker fewer", self.remove_worker),
            signal.SIGUSR1: ("opening the logs again", self.reopen_logs),
        }

    def _noted(self, number: int) -> None:
        """SIGNAL."""
        self._loop.run_callback_threadsafe(self._actions.do, partial(self._obey, number))

    def _obey(self, number: int) -> None:
        name, (what, action) = signal.Signals(number).name, self._meanings[number]
        if action == self._drain and self._stopping:
            log.info("%s: ending at once", name)
        elif action == self._drain:
            gevent.spawn(self._say_drain, name)
        else:
            log.info("%s: %s", name, what)
        action()

    def _say_drain(self, name: str) -> None:
        """Where workers serve clients themselves they are asked first: what they have told may be
        older. **Blocks**."""
        slots, silent = self._pool.slots, set()
        if self._front is None:
            silent = set(slots.children) - liveness.answering(slots)
        total = self._total()
        requests, parked = (
            total.get("waiting", 0) + total.get("in_flight", 0),
            total.get("parked", 0),
        )
        say_drain(
            log,
            name,
            self._settings.grace,
            requests,
            parked,
            silent=len(silent & set(slots.children)),
        )

    def _drain(self) -> None:
        self.stop(0 if self._stopping else None)
