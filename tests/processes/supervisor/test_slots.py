"""The slots of the workers: how long one stays empty, and what it is called."""

from __future__ import annotations

import pytest

from green_router.processes.supervisor.slots import FIRST_PAUSE, LONGEST_PAUSE, Slot, Slots


def pauses(lived: float, count: int) -> list[float]:
    """Those after so many deaths, each after so many seconds of work."""
    slot = Slot(1)
    return [round(slot.next_pause(lived), 3) for _ in range(count)]


# As soon as it is there: further and further apart.
@pytest.mark.parametrize(
    ("lived", "expected"),
    [
        (0.0, [0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30.0, 30.0]),
        (0.9, [0.1, 0.2, 0.4, 0.8, 1.6]),
        (1.1, [0.1, 0.2, 0.275, 0.275]),  # after a while: a quarter of the while
        (8.0, [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]),
        (30.0, [0.1, 0.1, 0.1]),  # after a long one: as if it were the first
        (86400.0, [0.1, 0.1]),
    ],
)
def test_pauses(lived: float, expected: list[float]) -> None:
    assert pauses(lived, len(expected)) == expected


def test_a_long_pause_is_forgotten() -> None:
    slot = Slot(1)
    while slot.next_pause(0.0) < LONGEST_PAUSE:
        pass
    assert slot.next_pause(2.0) == 0.5
    assert slot.next_pause(LONGEST_PAUSE) == FIRST_PAUSE


def test_slots_have_the_lowest_numbers() -> None:
    slots = Slots(3)
    assert [slot.number for slot in slots.all] == [1, 2, 3]
    assert slots.remove().number == 3
    assert (slots.wanted(2), slots.wanted(3)) == (True, False)
    assert slots.add().number == 3
