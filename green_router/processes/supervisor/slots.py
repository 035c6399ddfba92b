"""Worker slots, who occupies them, and the statistics of those before.

Rules of this file
  1. A ledger does not end with its worker: what it counted is added to its slot's, or, where the
     slot is gone too, kept for all.
  2. Nothing is started or ended here; that is the supervisor's.
  3. The pause after a death doubles for as long as the workers of a slot die young. After one that
     has worked for a while it is a small part of that while, so that the slot is not empty for
     long.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

from ...messages.ledger import Ledger, merge
from .child import Child, State

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 30.0
"""Seconds before a dead worker is replaced. Short at first: one death is an accident."""

LIVED = 1.0
"""Seconds after which a worker has worked for a while: it did not die of its start."""

PART = 0.25
"""Of the time for which it worked, the longest pause then."""


class Slot:
    """A slot for a worker.

    Attributes:
        child: who has it.
        successor: who will have it as soon as it has booted.
        past: the ledgers of all who have had it.
        pause: seconds before the next replacement.
        deaths: how many have died in it.
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.child: Child | None = None
        self.successor: Child | None = None
        self.past: dict[str, Any] = merge([])
        self.pause = 0.0
        self.deaths = 0

    @property
    def children(self) -> list[Child]:
        """The worker that has the slot, and its successor."""
        return [child for child in (self.child, self.successor) if child is not None]

    def enter(self, child: Child) -> None:
        """Put a worker in: where there is one, as its successor."""
        if self.child is None:
            self.child = child
        else:
            self.successor = child

    def note_death(self) -> None:
        """A worker has died in it."""
        self.deaths += 1

    def keep(self, snapshot: dict[str, Any]) -> None:
        """Keep what a worker has counted that has it no more."""
        self.past = merge([self.past, closed(snapshot)])

    def next_pause(self, lived: float) -> float:
        """A worker has died, or could not be started: return how many seconds the slot waits now.

        Args:
            lived: for how many seconds it was ready.
        """
        if lived >= LONGEST_PAUSE:
            self.pause = FIRST_PAUSE
        else:
            longest = max(FIRST_PAUSE, PART * lived) if lived >= LIVED else LONGEST_PAUSE
            self.pause = min(max(2 * self.pause, FIRST_PAUSE), longest)
        return self.pause

    def drop(self, child: Child) -> None:
        """Take it out. Where it had the slot and has a successor, that one has it now, ready or
        not."""
        if self.child is child:
            self.child, self.successor = self.successor, None
        elif self.successor is child:
            self.successor = None


class Slots:
    """All slots.

    Args:
        wanted: the number of slots.
    Attributes:
        all: by number, but for those that were removed.
        leaving: workers that are in no slot any more, and have not ended.
    """

    def __init__(self, wanted: int) -> None:
        self.all = [Slot(number + 1) for number in range(wanted)]
        self.leaving: set[Child] = set()
        self._dropped: dict[str, Any] = merge([])

    @property
    def children(self) -> list[Child]:
        """Every worker process that has not been reaped."""
        return [*(child for slot in self.all for child in slot.children), *self.leaving]

    @property
    def complete(self) -> bool:
        """True if there is a ready worker in every slot."""
        return all(slot.child is not None and slot.child.state is State.READY for slot in self.all)

    @property
    def anybody(self) -> bool:
        """True if there is a ready worker in any slot."""
        return any(slot.child is not None and slot.child.state is State.READY for slot in self.all)

    def slot_of(self, child: Child) -> Slot | None:
        """The slot that it has or will have."""
        return next((slot for slot in self.all if child in slot.children), None)

    def wanted(self, number: int) -> bool:
        """True if there is a slot of that number, or a worker that leaves it."""
        return number in {
            *(slot.number for slot in self.all),
            *(child.number for child in self.leaving),
        }

    def add(self) -> Slot:
        """One slot more, with the lowest number that is free."""
        slot = Slot(min({*range(1, len(self.all) + 2)} - {slot.number for slot in self.all}))
        self.all.append(slot)
        return slot

    def remove(self) -> Slot:
        """The last slot goes."""
        slot = self.all.pop()
        self._dropped = merge([self._dropped, slot.past])
        return slot

    def leave(self, child: Child) -> Slot | None:
        """A worker has ended: keep what it counted, and take it out. Returns the slot that it was
        in, if any."""
        self.leaving.discard(child)
        slot = self.slot_of(child)
        snapshot = child.backend.snapshot() if child.backend is not None else child.snapshot
        if snapshot is not None:
            home = slot or next((other for other in self.all if other.number == child.number), None)
            if home is not None:
                home.keep(snapshot)
            else:
                self._dropped = merge([self._dropped, closed(snapshot)])
        if slot is not None:
            slot.drop(child)
        return slot

    def total(self) -> dict[str, Any]:
        """The ledgers of all, added up."""
        return merge(
            [
                self._dropped,
                *(slot.past for slot in self.all),
                *(child.snapshot for child in self.children if child.snapshot is not None),
            ]
        )

    def rows(self, answering: set[Child]) -> list[dict[str, Any]]:
        """Each worker as plain data, and each slot without one.

        Args:
            answering: those whose loops turn.
        """
        rows = []
        for slot in self.all:
            rows += [_row(slot, child, child in answering) for child in slot.children]
            if slot.child is None:
                rows.append(
                    {
                        "slot": slot.number,
                        "pid": None,
                        "state": "waiting",
                        "deaths": slot.deaths,
                        "stats": slot.past,
                    }
                )
        return [*rows, *(_row(None, child, child in answering) for child in self.leaving)]


def _row(slot: Slot | None, child: Child, answers: bool) -> dict[str, Any]:
    own = (
        child.backend.snapshot()
        if child.backend is not None
        else child.snapshot or Ledger().snapshot()
    )
    past = [slot.past] if slot is not None and slot.child is child else []
    return {
        "slot": child.number,
        "pid": child.pid,
        "state": child.state.value,
        "age": monotonic() - child.started_at,
        "deaths": slot.deaths if slot is not None else 0,
        "answers": answers,
        "silent": 0.0 if answers or child.asked_at is None else monotonic() - child.asked_at,
        "stats": merge([*past, own]),
    }


def closed(snapshot: dict[str, Any]) -> dict[str, Any]:
    """The last snapshot of a worker that is gone: what it had not settled is abandoned."""
    unsettled = snapshot.get("in_flight", 0) + snapshot.get("waiting", 0)
    fates = {**snapshot["fates"], "abandoned": snapshot["fates"]["abandoned"] + unsettled}
    gauges = {
        name: 0
        for name, value in snapshot.items()
        if isinstance(value, (int, float)) and name != "received"
    }
    return {**snapshot, **gauges, "fates": fates}
