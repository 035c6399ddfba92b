"""Workers that are replaced while they serve: one that is to be recycled, or all of them by a
rolling replacement.

Rules of this file
  1. A worker that is to be replaced serves until its successor is ready.
  2. A rolling replacement goes from slot to slot, one worker at a time. It ends when every worker
     has been started after it began, and has booted; so those that were booting when it began are
     replaced too.
  3. A successor that does not boot leaves the old one there. A rolling replacement is over then:
     the application is broken, and somebody waits for that answer. The successor of one that is
     recycled is tried again, in pauses that double.
  4. A successor that somebody has killed says nothing about the application: the rolling
     replacement tries again.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from time import monotonic

from ...hub.log import Log
from ..systemd import notify, reloading
from .actions import ActionQueue
from .child import Child, State
from .slots import FIRST_PAUSE, Slot, Slots
from .spawner import Spawner

log = Log("supervisor")

TRIES = 3
"""How often in a row a successor may be killed before a rolling replacement gives up."""


class Replacer:
    """Replaces workers.

    Args:
        slots: of all workers.
        spawner: starts them.
        actions: for what is to be done later.
        fill: ``fill(slot)``, start a worker where there is none; whatever becomes of it is
            answered.
        retire: ``retire(child)``, let it finish what it has, and go.
    """

    def __init__(
        self,
        slots: Slots,
        spawner: Spawner,
        actions: ActionQueue,
        fill: Callable[[Slot], None],
        retire: Callable[[Child], None],
    ) -> None:
        self._slots, self._spawner, self._later = slots, spawner, actions.later
        self._fill, self._retire = fill, retire
        self._to_recycle: set[Child] = set()
        self._todo: deque[Slot] = deque()
        self._began_at = 0.0
        self._awaited: Child | None = None
        self._killed = 0
        self._rolling = self._stopped = False

    # -- one of them -------------------------------------------------------------------------------

    def recycle(self, child: Child) -> None:
        """Replace a worker that has done its share, or was told to go."""
        slot = self._slots.slot_of(child)
        if slot is not None and child not in self._to_recycle and not self._stopped:
            self._to_recycle.add(child)
            log.info("worker %d [%d]: to be replaced", child.number, child.pid)
            self._recycle(slot)

    def _recycle(self, slot: Slot) -> None:
        child = slot.child
        if (
            child is not None
            and child in self._to_recycle
            and child.state is State.READY
            and slot.successor is None
            and slot in self._slots.all
            and not self._stopped
        ):
            self._succeed(slot)

    def _succeed(self, slot: Slot) -> None:
        """Start a successor; where that cannot be, it is as if it had not booted."""
        try:
            slot.enter(self._spawner.start(slot.number))
        except OSError as error:
            log.error(
                "worker %d: a new one cannot be started: %s; the old one goes on",
                slot.number,
                error,
            )
            self._recycle_later(slot)

    def _recycle_later(self, slot: Slot) -> None:
        if slot.child in self._to_recycle:
            self._later(slot.next_pause(0), partial(self._recycle, slot))

    # -- all of them -------------------------------------------------------------------------------

    def roll(self) -> None:
        """Replace all, one after the other; from the beginning where that is going on."""
        reloading()
        self._rolling, self._began_at = True, monotonic()
        self._todo = deque(self._slots.all)
        self._awaited, self._killed = None, 0
        self.go_on()

    def go_on(self) -> None:
        """The next one, if nothing is waited for."""
        while self._rolling and self._awaited is None:
            if not self._todo:
                self._end("reloaded")
                return
            slot = self._todo.popleft()
            if slot in self._slots.all:
                self._renew(slot)

    def _renew(self, slot: Slot) -> None:
        for child in slot.children:
            if child.state is State.BOOTING and child.started_at < self._began_at:
                slot.drop(child)
                self._retire(child)
        if slot.child is None:
            self._fill(slot)
        elif slot.child.started_at < self._began_at and slot.successor is None:
            self._succeed(slot)
        newest = slot.successor or slot.child
        if newest is None or newest.started_at < self._began_at:
            self._give_up()
        elif newest.state is State.BOOTING:
            self._awaited = newest

    def _give_up(self) -> None:
        new = sum(
            slot.child is not None
            and slot.child.state is State.READY
            and slot.child.started_at >= self._began_at
            for slot in self._slots.all
        )
        words = f"the reload has failed: {new} of {len(self._slots.all)} workers are new"
        log.error("%s", words)
        self._end(words)

    def _end(self, words: str) -> None:
        self._rolling = False
        self._todo.clear()
        notify("READY=1", f"STATUS={words}")

    # -- what becomes of them ----------------------------------------------------------------------

    def ready(self, child: Child) -> None:
        """The child has booted."""
        if child is self._awaited:
            self._awaited, self._killed = None, 0
        slot = self._slots.slot_of(child)
        if slot is not None:
            self._recycle(slot)  # it was told to go while it booted
        self.go_on()

    def failed(self, slot: Slot, child: Child) -> None:
        """The successor in this slot has ended before it had booted."""
        log.error(
            "the new worker %d [%d] did not boot: %s; the old one goes on",
            child.number,
            child.pid,
            child.failure or child.process.cause,
        )
        self._recycle_later(slot)

    def ended(self, child: Child, slot: Slot | None) -> None:
        """A worker has ended.

        Args:
            slot: where it was; None if it was told to go.
        """
        self._to_recycle.discard(child)
        if child is not self._awaited:
            return
        self._awaited = None
        if slot is None:
            self.go_on()
        elif child.process.killed and self._killed < TRIES:
            self._killed += 1
            self._todo.appendleft(slot)
            self._later(FIRST_PAUSE, self.go_on)
        else:
            self._give_up()

    def stop(self) -> None:
        """Replace nobody any more."""
        self._stopped, self._rolling, self._awaited = True, False, None
        self._todo.clear()
