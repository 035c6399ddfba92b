"""The workers: they are started, get work, are let go, and when they die, others take their places.

Rules of this file
  1. What cannot boot before anything is served is an error of the whole. A later death, at whatever
     time, is answered with a new worker, after a pause (slots.py).
  2. A worker that is let go gets no more requests, finishes what it has, for a time, and is then
     told to end; what does not end when it is told to is killed.
  3. Nothing here waits. What happens is noted in callbacks of the hub, and acted upon from the
     action queue.

How one is started is in spawner.py; how it is replaced while it serves, for whatever reason, in
rolling.py.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from ...errors import ApplicationError, GreenRouterError
from ...hub.log import Log
from ...settings import Service, Settings
from ..channel import protocol
from ..channel.protocol import Message
from ..front.dispatcher import Dispatcher
from .actions import ActionQueue
from .child import Child, State
from .liveness import LivenessMonitor
from .reloader import Reloader
from .rolling import Replacer
from .slots import Slot, Slots
from .spawner import Spawner

log = Log("supervisor")

RATHER_ELSEWHERE = 1.0
"""Seconds without a worker after which who has connected to a slot is better served by another."""


class WorkerPool:
    """All workers of a service.

    Args:
        loader: who loads the application in a worker, ``module:function``.
        service: what is served, and how.
        given: settings of the server by name, as they were given; ``on_error`` is a target.
        settings: the same, checked.
        actions: for what is to be done.
        changes: is told the application's files.
        ready: called when a worker has booted.
        failed: called with the error that does not let it begin.
    Attributes:
        slots: the slots, and who has them.
        replacer: replaces workers while they serve.
        serving: whether the service has begun; until then it is not worth going on without a
            worker.
        dispatcher: who hands out requests, where they are not served by the workers themselves.
    """

    def __init__(
        self,
        loader: str,
        service: Service,
        given: dict[str, Any],
        settings: Settings,
        actions: ActionQueue,
        changes: Reloader,
        ready: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._application = service.application
        self._direct = service.dispatch == "direct"
        self._linger = settings.linger
        self._worker_grace = (
            settings.grace if service.worker_grace is None else service.worker_grace
        )
        self._actions, self._changes, self._worker_ready, self._failed = (
            actions,
            changes,
            ready,
            failed,
        )
        self.slots = Slots(service.workers or 1)
        self._liveness = LivenessMonitor(self.slots, service.worker_timeout, self._hung)
        self._spawner = Spawner(loader, service, given, self, self._liveness.look_soon)
        self.replacer = Replacer(self.slots, self._spawner, actions, self._fill, self._retire)
        self.serving = self._stopping = False
        self.dispatcher: Dispatcher | None = None

    # -- they come ---------------------------------------------------------------------------------

    def begin(self) -> tuple[str, ...]:
        """Start all. Returns the endpoints, where workers serve clients themselves. Raises
        BindError."""
        endpoints = self._spawner.listen()
        for slot in self.slots.all:
            self._fill(slot)
        return endpoints

    def serve(self, dispatcher: Dispatcher | None) -> None:
        """From now on they get work."""
        self.dispatcher = dispatcher
        for slot in self.slots.all:
            if slot.child is not None:
                self._admit(slot.child)
        self.serving = True

    def _fill(self, slot: Slot) -> None:
        """Start a worker where there is none."""
        if slot.child is None and slot in self.slots.all and not self._stopping:
            try:
                slot.enter(self._spawner.start(slot.number))
            # No memory, no descriptor, no process, a port that somebody else has now.
            except OSError as error:
                cause = f"worker {slot.number} cannot be started: {error}"
                self._try_again(
                    slot,
                    cause,
                    error if isinstance(error, GreenRouterError) else GreenRouterError(cause),
                )

    def ready(self, child: Child, files: list[str]) -> None:
        """HUB. Admit a worker that has booted."""
        self._actions.do(partial(self._ready, child, files))

    def recycle(self, child: Child) -> None:
        """HUB. Replace a worker soon."""
        self._actions.do(partial(self.replacer.recycle, child))

    def files_loaded(self, child: Child, files: list[str]) -> None:
        """HUB. Watch further files of the application."""
        self._changes.note(files)
        log.debug("worker %d [%d]: watching %s too", child.number, child.pid, " ".join(files))

    def _ready(self, child: Child, files: list[str]) -> None:
        slot = self.slots.slot_of(child)
        if slot is None or child.state is not State.BOOTING:
            return
        child.booted(files)
        self._changes.note(files)
        log.info("worker %d [%d]: ready", child.number, child.pid)
        old = slot.child
        if old is not None and old is not child:
            slot.drop(old)
        if self.serving:
            self._admit(child)
        if old is not None and old is not child:
            self._retire(old)
        self._worker_ready()
        self.replacer.ready(child)

    def _admit(self, child: Child) -> None:
        """Give a worker requests, or let it serve clients itself."""
        if self._direct:
            child.channel.send([protocol.serve()])
        elif self.dispatcher is not None and child.backend is not None and child.backend.open:
            child.employ(self.dispatcher.add(child.backend))

    # -- they go -----------------------------------------------------------------------------------

    def _retire(self, child: Child) -> None:
        """Let a worker finish what it has, and go. It is in no slot any more."""
        self.slots.leaving.add(child)
        if child.state is not State.READY or child.backend is None or self.dispatcher is None:
            self._stop(child, self._worker_grace)
        else:
            until = monotonic() + self._worker_grace
            stop = partial(self._actions.do, partial(self._stop_at, child, until))
            child.retire(self._worker_grace, stop)
            self.dispatcher.retire(child.backend, stop)

    def _stop_at(self, child: Child, until: float) -> None:
        self._stop(child, max(0.0, until - monotonic()))

    def _stop(self, child: Child, seconds: float) -> None:
        """Tell a worker to end. What it has in hand gets that time: all of it where it serves
        clients itself, elsewhere work that goes on after the reply."""
        child.stop(seconds, seconds + (self._linger if self._direct else 0.0))

    def _hung(self, child: Child, timeout: float) -> None:
        """HUB."""
        self._actions.do(partial(self._abort_hung, child, timeout))

    def _abort_hung(self, child: Child, timeout: float) -> None:
        if child.running and child.asked_at is not None and not child.process.ending:
            child.process.abort(f"had blocked its loop for {timeout:g} s")
            log.error(
                "worker %d [%d]: its loop has been blocked for %g s; killing it",
                child.number,
                child.pid,
                timeout,
            )

    def stop(self, seconds: float) -> None:
        """Tell all to end.

        Args:
            seconds: for what is in hand.
        """
        self._stopping = True
        for child in self.slots.children:
            self._stop(child, seconds)

    def ended(self, child: Child) -> None:
        """HUB. Settle at once what the child had in hand; everything else is done by the action
        queue."""
        if child.backend is not None and self.dispatcher is not None:
            self.dispatcher.lost(child.backend, child.process.cause)
        if child.process.out_of_memory:
            for other in self.slots.children:  # this death in the kernel's count is none of theirs
                other.process.another_killed()
        self._actions.do(partial(self._reap, child))

    def _reap(self, child: Child) -> None:
        slot = self.slots.slot_of(child)
        successor = slot is not None and slot.successor is child
        self.slots.leave(child)
        self._changes.note(child.files)
        if slot is None or child.state is State.ENDED:
            log.info("worker %d [%d] %s", child.number, child.pid, child.process.cause)
            slot = None
        elif successor:
            self.replacer.failed(slot, child)
        else:
            self._answer_death(slot, child)
        self.replacer.ended(child, slot)
        self._release_unwanted(child.number)

    def _answer_death(self, slot: Slot, child: Child) -> None:
        slot.note_death()
        stacks = f"\n{child.process.stacks}" if child.process.stacks else ""
        failure = child.failure
        cause = f"worker {child.number} [{child.pid}] {child.process.cause}" + (
            f": {failure}" if failure is not None else ""
        )
        if failure is None and child.ready_at is None:
            failure = ApplicationError(
                f"the worker {child.process.cause} while it loaded {self._application}{stacks}"
            )
        self._try_again(slot, cause, failure, child.lived, stacks)

    def _try_again(
        self,
        slot: Slot,
        cause: str,
        failure: GreenRouterError | None,
        lived: float = 0.0,
        stacks: str = "",
    ) -> None:
        """A slot where a worker has died, or could not begin (``failure``): fill it, unless its
        successor has it already."""
        if failure is not None and not self.serving:
            self._failed(failure)
            return
        slot.next_pause(lived)
        log.error(
            "%s; the next %s%s",
            cause,
            f"starts in {slot.pause:g} s" if slot.child is None else "is starting",
            stacks,
        )
        if (
            self.slots.anybody
            and slot.child is None
            and (failure is not None or slot.pause > RATHER_ELSEWHERE)
        ):
            self._spawner.release(slot.number)
        self._actions.later(slot.pause, partial(self._fill, slot))

    # -- more of them, fewer, none -----------------------------------------------------------------

    def add(self) -> None:
        """One more."""
        self._fill(self.slots.add())

    def remove(self) -> None:
        """Retire the worker of the last slot, unless it is the only one."""
        if len(self.slots.all) > 1:
            slot = self.slots.remove()
            for child in slot.children:
                self._retire(child)
                self.replacer.ended(child, None)
            self._release_unwanted(slot.number)

    def _release_unwanted(self, number: int) -> None:
        if not self.slots.wanted(number):
            self._spawner.release(number)

    def stop_replacing(self) -> None:
        """Cancel replacements: current workers stay, successors go."""
        self.replacer.stop()
        for slot in self.slots.all:
            if slot.successor is not None:
                successor = slot.successor
                slot.drop(successor)
                self._retire(successor)

    def tell(self, message: Message) -> None:
        """Say this to all."""
        for child in self.slots.children:
            child.channel.send([message])

    def tell_running(self, message: Message) -> None:
        """Say this to those that have booted."""
        for child in self.slots.children:
            if child.running:
                child.channel.send([message])

    def kill(self) -> None:
        """End all, by force. They have ended when there are no ``slots.children``."""
        self._stopping = True
        self._liveness.close()
        self.replacer.stop()
        for child in self.slots.children:
            child.process.kill()

    def close(self) -> None:
        """Close what they have listened on."""
        self._spawner.close()
