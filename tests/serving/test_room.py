"""How many messages may be taken, by what is held: with a real ledger and a real admission."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from green_router.messages.admission import Admission
from green_router.messages.ledger import ANSWERED, Ledger
from green_router.serving.room import Room, admission_of
from green_router.settings import Settings


class Held:
    """A room, and what is in it. Attributes: ledger; parking, ahead and overload, as the room asks
    them; said, what it tells of overload."""

    def __init__(self, max_in_flight: int, admission: Admission | None = None) -> None:
        self.ledger, self.admission = Ledger(), admission
        self.parking = SimpleNamespace(unsettled=0)
        self.ahead: Any = SimpleNamespace(requests=[], bytes=0)
        self.said: list[Any] = []
        self.overload = SimpleNamespace(full=False, fill=self._fill, ease=self._ease)
        parts: Any = (self.ledger, self.parking, self.overload, self.ahead)
        self.room = Room(max_in_flight, admission, *parts)

    def _fill(self, held: int) -> None:
        self.overload.full = True
        self.said.append(held)

    def _ease(self) -> None:
        self.overload.full = False
        self.said.append("ease")

    def take(self, wanted: int, *frames: bytes) -> int:
        """Ask for so many, and take what there is."""
        room = max(0, self.room.of(wanted))
        for _ in range(room):
            self.ledger.received += 1
            if self.admission is not None:
                self.admission.admit([*frames])
        return room

    def answer(self, count: int, *frames: bytes) -> None:
        self.ledger.counts[ANSWERED] += count
        for _ in range(count):
            if self.admission is not None:
                self.admission.release([*frames])


# -- by number -------------------------------------------------------------------------------------


def test_no_more_are_taken_than_there_is_room_for() -> None:
    held = Held(10)
    assert [held.take(4) for _ in range(4)] == [4, 4, 2, 0]
    assert held.said == [10]
    held.answer(3)
    assert [held.take(2), held.take(2), held.take(2)] == [2, 1, 0]
    assert held.said == [10, "ease", 10]


@pytest.mark.parametrize("wanted", [1, 3, 7, 64])
def test_however_much_is_asked_for_no_more_is_ever_held_than_may_be(wanted: int) -> None:
    """The last count is a lower bound of the room: what was answered since is found later."""
    held = Held(10)
    for step in range(200):
        held.take(wanted)
        assert held.ledger.unsettled <= 10
        held.answer(min(held.ledger.unsettled, step % 4))
    held.answer(held.ledger.unsettled)
    assert sum(held.take(wanted) for _ in range(10)) == 10


def test_all_that_there_is_room_for_can_be_taken() -> None:
    """Also one by one, and where as much again was answered meanwhile."""
    held = Held(3)
    for _ in range(100):
        assert held.take(1) == 1
        held.answer(1)
    assert held.said == []
    assert [held.take(1) for _ in range(4)] == [1, 1, 1, 0]


def test_replies_that_wait_for_their_peer_have_their_own_bounds() -> None:
    held = Held(2)
    held.take(2)
    assert held.take(1) == 0
    held.parking.unsettled = 1
    assert held.take(5) == 1


def test_what_was_read_ahead_holds_no_place() -> None:
    held = Held(2)
    held.ledger.received += 3
    held.ahead.requests = [object()] * 3
    assert held.take(9) == 2
    assert held.take(9) == 0
    assert held.said == [2]


# -- by what else is limited -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "needed"),
    [
        ({}, False),
        ({"max_in_flight": 5}, False),
        ({"max_in_flight_bytes": 1_000_000}, True),
        ({"max_in_flight_per_peer": 5}, True),
        ({"max_in_flight_bytes_per_peer": 1_000_000}, True),
        ({"overload": "refuse"}, True),
    ],
)
def test_messages_are_counted_one_by_one_only_where_a_setting_asks_for_it(
    settings: dict[str, Any], needed: bool
) -> None:
    assert (admission_of(Settings(**settings)) is not None) is needed


def test_bytes_that_are_reached_leave_no_room_however_few_requests_there_are() -> None:
    frames = b"peer", b"", bytes(10_000)
    held = Held(1000, Admission(1000, max_bytes=30_000))
    assert [held.take(1, *frames) for _ in range(4)] == [1, 1, 1, 0]
    assert held.said == [3]
    assert held.take(1, *frames) == 0
    held.answer(1, *frames)
    assert held.take(1, *frames) == 1
    assert held.said == [3, 3, "ease"]


def test_bytes_of_what_was_read_ahead_do_not_count_either() -> None:
    frames = b"peer", b"", bytes(10_000)
    admission = Admission(1000, max_bytes=15_000)
    held = Held(1000, admission)
    held.take(1, *frames)
    admission.admit([*frames])
    held.ledger.received += 1
    assert held.take(1, *frames) == 0
    held.ahead.requests, held.ahead.bytes = [object()], admission.bytes // 2
    assert held.take(1, *frames) == 1


def test_who_refuses_takes_everything() -> None:
    """To say no. It is over when there is room again."""
    held = Held(2, Admission(2, refusing=True))
    assert held.take(5, b"peer", b"", b"x") == 5
    held.overload.full = True
    assert held.take(5, b"peer", b"", b"x") == 5
    assert held.said == []
    held.answer(9, b"peer", b"", b"x")
    assert held.take(1, b"peer", b"", b"x") == 1
    assert held.said == ["ease"]
