"""The supervisor: keeps as many workers going as are wanted.

Rules of this file
  1. Signal handlers and callbacks of the hub only note what has happened; one greenlet, in ``run``, acts, one thing
     after the other. Nothing that it does waits.
  2. What cannot boot at first ends the whole, with its error; a later death is answered with a new worker, after a pause
     that doubles for as long as workers die within a second.
  3. A worker that is to be replaced serves until its successor is ready. A successor that does not boot leaves it there.
  4. A ledger does not end with its worker: what it counted is added to its slot's.
  5. No worker outlives ``run``.

In the front mode the supervisor's process is the serving one: it has the ROUTER, and no code of the application.
"""
from __future__ import annotations

import logging
import os
import random
import signal
from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.hub import get_hub
from gevent.queue import SimpleQueue

from ..errors import ApplicationError, ConfigError, GreenRouterError
from ..serving.signals import Signals
from ..settings import Service, Settings
from . import health, logs
from .changes import Changes
from .child import Child
from .control import Control
from .front import Front
from .lane import Lane
from .line import Message
from .listeners import Listeners
from .notify import notify, reloading
from .staff import Slot, Staff

log = logging.getLogger("green_router.supervisor")

LEFT_OUT = ("on_error", "block_warning")
"""Settings that concern the handler: in the front mode they hold in the workers."""

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a dead worker is replaced, doubled each time. Short at first: one death is an accident."""

LIVED = 1.0
"""Seconds after which a worker has lived: the pause after its death is the short one again. So a slot is empty for a tenth
of the time at the most, unless its workers die as soon as they are there."""

LEAVE_WITHIN = 5.0
"""Seconds that a worker with nothing in hand has to end: the application's own ends (atexit, threads)."""

HURRY_WITHIN = 1.0
"""The same when all shall end at once."""


class Supervisor:
    """Serves an application with worker processes.

    Args:
        application: what workers load, ``module:callable``.
        loader: who loads it there, ``module:function`` (the command line's).
        service, settings: settings by name, as ``Service`` and ``Settings`` take them; ``on_error`` is a target too.
        announce: called with the endpoints as soon as they are served.
    Raises:
        ConfigError: a setting is wrong.
    """

    def __init__(self, application: str, loader: str, service: dict[str, Any], settings: dict[str, Any],
                 announce: Callable[[tuple[str, ...]], None]) -> None:
        self._service = Service(**service)
        self._settings = Settings(**{**settings, "on_error": None})
        self._announce = announce
        self._application = application
        plain = {name: value if name != "envelope" else self._settings.envelope.name for name, value in settings.items()}
        self._orders = {
            "application": application, "loader": loader, "settings": plain, "until_ready": self._service.until_ready,
            "patch": self._service.patch, "log_level": self._service.log_level, "log_format": self._service.log_format,
            "log_file": self._service.log_file, "watch": self._service.reload,
        }
        self._explains = settings.get("on_error") is not None
        self._direct = self._service.dispatch == "direct"
        self._staff = Staff(self._service.workers or 1)
        self._events: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._roll: deque[Slot] = deque()
        self._front: Front | None = None
        self._listeners: Listeners | None = None
        self._serving = self._rolling = self._stopping = self._dismissed = self._finished = False
        self._error: BaseException | None = None
        self._endpoints: tuple[str, ...] = ()
        self._signals = Signals(self._noted, *self._meanings)
        self._changes = Changes(self._changed)
        self._greenlets: list[Any] = []
        self._started_at = monotonic()

    # -- the loop --------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Serve until a signal ends it. **Blocks** the calling greenlet; for the main thread.

        Raises:
            ConfigError, BindError, ApplicationError: it could not begin.
        """
        self._loop = get_hub().loop
        control = self._listen_for_questions()
        try:
            if self._direct:
                self._listeners = Listeners(self._service.bind, self._settings.backlog)
            self._signals.catch()
            for slot in self._staff.slots:
                self._fill(slot)
            if self._service.worker_timeout is not None:
                self._greenlets.append(gevent.spawn(
                    health.watch, self._staff, self._service.worker_timeout, lambda child: self._do(partial(self._hung, child))))
            if self._service.reload:
                self._greenlets.append(gevent.spawn(self._changes.watch))
            while not self._finished:
                self._events.get()()
        finally:
            self._stopping = self._dismissed = True
            gevent.killall(self._greenlets)
            for child in self._staff.children:
                child.kill(signal.SIGKILL)
            while self._staff.children:
                self._events.get()()
            if self._front is not None:
                self._front.stop(0)
            if self._listeners is not None:
                self._listeners.close()
            if control is not None:
                control.close()
            self._signals.restore()
        if self._serving:
            self._say_total()
        if self._error is not None:
            raise self._error

    def _listen_for_questions(self) -> Control | None:
        try:
            return Control(self._service.control, {"stats": self.stats})
        except ConfigError as error:
            if self._service.control is not None:
                raise
            log.warning("nobody can ask for statistics: %s", error)
            return None

    def _say_total(self) -> None:
        """The last line of the log: what became of everything."""
        total = self._total()
        fates = ", ".join(f"{number} {fate}" for fate, number in total["fates"].items() if number)
        log.info("ended; all workers together: %d received, %s", total["received"], fates or "nothing else")

    def _do(self, action: Callable[[], None]) -> None:
        """ANYWHERE in this thread. Let the loop do it."""
        self._events.put(action)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._greenlets = [greenlet for greenlet in self._greenlets if not greenlet.dead]
        self._greenlets.append(gevent.spawn_later(seconds, self._do, action))

    # -- starting workers ------------------------------------------------------------------------------------------

    def _fill(self, slot: Slot) -> None:
        """Start a worker where there is none."""
        if slot.child is None and slot in self._staff.slots and not self._dismissed:
            slot.child = self._start(slot)

    def _replace(self, slot: Slot) -> None:
        """Start a successor, unless there is one."""
        if slot in self._staff.slots and not self._stopping:
            if slot.child is None:
                self._fill(slot)
            elif slot.child.state == "ready" and slot.successor is None:
                slot.successor = self._start(slot)

    def _start(self, slot: Slot) -> Child:
        listeners = self._listeners.of(slot.number) if self._listeners is not None else None
        limit = self._service.max_requests
        orders = {
            **self._orders, "slot": slot.number, "endpoints": listeners,
            "max_requests": None if limit is None else self._limit(limit)}
        child = Child(slot.number, orders, [descriptor for _, descriptor in listeners or []], self._received, self._ended)
        log.info("worker %d [%d]: starting", slot.number, child.pid)
        return child

    def _limit(self, limit: int) -> int:
        return limit + random.randint(0, self._service.max_requests_jitter)

    def _received(self, child: Child, batch: list[Message]) -> None:
        """HUB. Work goes to the dispatcher; the rest is noted."""
        others = batch
        if child.place is not None and self._front is not None:
            others = self._front.dispatcher.received(child.place, batch)
        for message in others:
            match message:
                case ("ready", endpoints, files):
                    self._do(partial(self._ready, child, endpoints, files))
                case ("worn",):
                    self._do(partial(self._worn, child))

    def _ready(self, child: Child, endpoints: tuple[str, ...], files: list[str]) -> None:
        if child.state != "booting":
            return
        child.state, child.ready_at, child.files = "ready", monotonic(), files
        self._changes.note(files)
        log.info("worker %d [%d]: ready", child.number, child.pid)
        slot = self._staff.slot_of(child)
        if slot is None:
            return
        old = None
        if slot.successor is child:
            old, slot.child, slot.successor = slot.child, child, None
        if self._serving:
            self._admit(child)
            if old is not None:
                self._retire(old)
        elif self._staff.complete:
            self._open(endpoints)
        self._roll_next()

    def _open(self, endpoints: tuple[str, ...]) -> None:
        """All are ready for the first time: serve."""
        if self._stopping:
            return
        try:
            if not self._direct:
                self._front = Front(self._application, self._service.worker_window, self._service.retry_lost,
                                    self._explains, lambda error: self._do(partial(self._fail, error)),
                                    **{name: value for name, value in vars(self._settings).items() if name not in LEFT_OUT})
                self._front.bind(*self._service.bind)
                self._front.start()
                endpoints = self._front.endpoints
        except GreenRouterError as error:
            self._front = None
            self._fail(error)
            return
        self._serving, self._endpoints = True, endpoints
        for slot in self._staff.slots:
            if slot.child is not None:
                self._admit(slot.child)
        notify("READY=1", f"STATUS={len(self._staff.slots)} workers serve {' '.join(endpoints)}")
        # A greenlet runs when the loop waits, and then signals are handled: who reads a line may signal at once.
        gevent.spawn(self._announce, endpoints)

    def _admit(self, child: Child) -> None:
        """Give a worker requests."""
        if self._front is not None:
            limit = self._service.max_requests
            child.place = Lane(child.pid, child.line, None if limit is None else self._limit(limit),
                               partial(self._do, partial(self._worn, child)))
            self._front.dispatcher.add(child.place)

    def _worn(self, child: Child) -> None:
        """A worker has done its share, or was told to go: replace it."""
        slot = self._staff.slot_of(child)
        if slot is not None and slot.child is child:
            log.info("worker %d [%d]: to be replaced", child.number, child.pid)
            self._replace(slot)

    # -- letting them go -------------------------------------------------------------------------------------------

    def _retire(self, child: Child) -> None:
        """Let a worker finish what it has, and go. It is in no slot any more."""
        self._staff.leaving.add(child)
        if child.state == "booting":
            child.kill(signal.SIGKILL)
            return
        child.state = "leaving"
        grace = self._settings.grace
        if child.place is not None and self._front is not None:
            self._front.dispatcher.retire(child.place, partial(self._do, partial(self._dismiss, child)))
            self._later(grace, partial(self._dismiss, child))
        else:
            self._dismiss(child)

    def _dismiss(self, child: Child, seconds: float | None = None) -> None:
        """Tell a worker to end, and see to it."""
        if child.state == "ended":
            return
        child.state, child.dismissed = "leaving", True
        grace = self._settings.grace if seconds is None else seconds
        child.line.send([("stop", grace)])
        more = grace + self._settings.linger if self._direct else 0.0
        self._later(more + (HURRY_WITHIN if seconds == 0 else LEAVE_WITHIN), partial(self._kill, child, "did not end in time"))

    def _kill(self, child: Child, reason: str) -> None:
        if child.state != "ended":
            child.kill(signal.SIGKILL, reason)

    def _ended(self, child: Child) -> None:
        """HUB. What it had in hand is settled at once, everything else by the loop."""
        if child.place is not None and self._front is not None:
            self._front.dispatcher.lost(child.place, child.cause)
        self._do(partial(self._bury, child))

    def _bury(self, child: Child) -> None:
        left = child in self._staff.leaving or child.dismissed
        if child.files:
            self._changes.note(child.files)
        slot = self._staff.leave(child)
        if left or slot is None:
            log.log(logging.INFO if left else logging.WARNING, "worker %d [%d] %s%s", child.number, child.pid, child.cause,
                    f"\n{child.stacks}" if child.stacks and not left else "")
            if self._listeners is not None and not self._staff.has(child.number):
                self._listeners.release(child.number)
        elif slot.successor is child:
            slot.successor = None
            self._roll.clear()
            log.error("the new worker %d [%d] did not boot: %s; the old one goes on", child.number, child.pid,
                      child.failure or child.cause)
            if self._rolling and not self._stopping:
                self._rolling = False
                notify("READY=1", "STATUS=the last reload failed")
        else:
            self._answer_death(slot, child)
        if self._stopping:
            self._finish()

    def _answer_death(self, slot: Slot, child: Child) -> None:
        booted = child.ready_at is not None
        slot.deaths += 1
        if not booted and (not self._serving or (child.failure and not self._staff.anybody)):
            stacks = f"\n{child.stacks}" if child.stacks else ""
            self._fail(child.failure or ApplicationError(
                f"the worker {child.cause} while it loaded {self._application}{stacks}"))
            return
        lived = monotonic() - (child.ready_at or monotonic())
        slot.pause = FIRST_PAUSE if lived >= LIVED else min(max(2 * slot.pause, FIRST_PAUSE), LONGEST_PAUSE)
        log.error("worker %d [%d] %s%s; the next starts in %g s%s", child.number, child.pid,
                  child.cause, f": {child.failure}" if child.failure else "", slot.pause,
                  f"\n{child.stacks}" if child.stacks else "")
        if not self._dismissed:
            self._later(slot.pause, partial(self._fill, slot))

    # -- the whole -------------------------------------------------------------------------------------------------

    def _fail(self, error: BaseException) -> None:
        """It cannot go on: end, and let ``run`` raise it."""
        self._error = self._error or error
        self.stop(0)

    def stop(self, seconds: float | None = None) -> None:
        """In the loop. Finish what was taken, then end; a second call may shorten the time.

        Args:
            seconds: for what is in hand; None for ``grace``.
        """
        first, self._stopping = not self._stopping, True
        self._roll.clear()
        if first:
            notify("STOPPING=1")
        for slot in self._staff.slots:
            self._drop_successor(slot)
        if self._front is not None:
            gevent.spawn(self._stop_front, self._front, seconds)
        else:
            self._dismiss_all(seconds)

    def _stop_front(self, front: Front, seconds: float | None) -> None:
        front.stop(seconds)
        self._do(partial(self._dismiss_all, seconds))

    def _dismiss_all(self, seconds: float | None) -> None:
        self._dismissed = True
        for child in self._staff.children:
            if child.state == "booting":
                child.dismissed = True
                child.kill(signal.SIGKILL)
            else:
                self._dismiss(child, seconds)
        self._finish()

    def _finish(self) -> None:
        self._finished = self._dismissed and not self._staff.children

    def reload(self) -> None:
        """In the loop. Replace all workers, one after the other."""
        if self._serving and not self._stopping:
            reloading()
            for slot in self._staff.slots:
                self._drop_successor(slot)
            self._roll, self._rolling = deque(self._staff.slots), True
            self._roll_next()

    def _drop_successor(self, slot: Slot) -> None:
        """Give up the one that boots."""
        if slot.successor is not None:
            successor, slot.successor = slot.successor, None
            self._retire(successor)

    def _roll_next(self) -> None:
        """Replace the next, as soon as no successor is booting."""
        while self._roll and self._staff.settled:
            self._replace(self._roll.popleft())
        if self._rolling and not self._roll and self._staff.settled:
            self._rolling = False
            notify("READY=1", "STATUS=reloaded")

    def add_worker(self) -> None:
        """In the loop. One more."""
        if not self._stopping:
            self._fill(self._staff.add())

    def remove_worker(self) -> None:
        """In the loop. One fewer; the last stays."""
        if len(self._staff.slots) > 1 and not self._stopping:
            for child in self._staff.remove():
                self._retire(child)

    def _reopen_logs(self) -> None:
        logs.reopen()
        for child in self._staff.children:
            child.line.send([("reopen",)])

    # -- watching --------------------------------------------------------------------------------------------------

    def _hung(self, child: Child) -> None:
        timeout = self._service.worker_timeout
        if child.state in health.ASKED and child.asked_at is not None:
            log.error("worker %d [%d]: its loop has not turned for %g s; ending it", child.number, child.pid, timeout)
            child.abort(f"had not turned its loop for {timeout:g} s")

    def _changed(self, paths: list[str]) -> None:
        log.info("reloading: %s changed", ", ".join(map(os.path.relpath, paths)))
        self._do(self.reload)

    # -- statistics ------------------------------------------------------------------------------------------------

    def stats(self) -> dict[str, Any]:
        """What has happened, of all workers together and of each. **Blocks**, half a second at the most.

        Returns:
            Plain data: ``sum``, a ledger's snapshot; ``workers``, a row each, with whether it ``answers``.
        """
        return {
            "pid": os.getpid(), "dispatch": self._service.dispatch, "endpoints": list(self._endpoints),
            "state": "stopping" if self._stopping else "serving" if self._serving else "starting",
            "uptime": monotonic() - self._started_at, "wanted": len(self._staff.slots), "sum": self._total(),
            "workers": self._staff.rows(health.answering(self._staff))}

    def _total(self) -> dict[str, Any]:
        """The ledger of all."""
        return self._staff.total() if self._front is None else self._front.stats()

    # -- signals ---------------------------------------------------------------------------------------------------

    @property
    def _meanings(self) -> dict[int, tuple[str, Callable[[], None]]]:
        """What signals mean, in words and deeds."""
        return {
            signal.SIGTERM: ("draining", self._drain),
            signal.SIGINT: ("draining", self._drain),
            signal.SIGHUP: ("reloading the application", self.reload),
            signal.SIGTTIN: ("one worker more", self.add_worker),
            signal.SIGTTOU: ("one worker fewer", self.remove_worker),
            signal.SIGUSR1: ("opening the logs again", self._reopen_logs),
        }

    def _noted(self, number: int) -> None:
        """SIGNAL."""
        self._loop.run_callback_threadsafe(self._do, partial(self._obey, number))

    def _obey(self, number: int) -> None:
        what, action = self._meanings[number]
        log.info("%s: %s", signal.Signals(number).name, "ending at once" if action == self._drain and self._stopping else what)
        action()

    def _drain(self) -> None:
        self.stop(0 if self._stopping else None)
