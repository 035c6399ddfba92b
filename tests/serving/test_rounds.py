"""When the requests of a round are asked, and in which pieces."""

from __future__ import annotations

from typing import Any

import pytest

from green_router.serving.pauses import EXPECTED, UNKNOWN
from green_router.serving.rounds import KNOWN, Batch, Round


def made(pause: int, known: int = EXPECTED) -> Round:
    return Round(pause | known << KNOWN)


class Entry:
    """Stands for a request that waits."""

    round: Round | None = None


@pytest.mark.parametrize(("pause", "due"), [(0, 1001), (2, 1004), (4, 1008)])
def test_questions_stand_at_multiples_of_their_pause(pause: int, due: int) -> None:
    """Those that come one after the other are asked together."""
    round_: Any = made(pause)
    for tick in (1000, 1000 + (1 << pause) - 1):
        round_.add(Entry(), tick, 1)
        assert round_.due == due


@pytest.mark.parametrize(("known", "share"), [(EXPECTED, 2), (UNKNOWN, 8)])
def test_questions_take_no_more_than_their_share(known: int, share: int) -> None:
    round_: Any = made(0, known)
    round_.add(Entry(), 1000, 1)
    round_.began = 1.001
    assert round_.rest(1.251, over=False)
    assert round_.due == 1001 + share * 250
    assert not round_.began


def test_a_round_is_asked_in_pieces() -> None:
    """Each rests for its own part; the pause counts from the first to the next first."""
    round_: Any = made(10)
    entries = [Entry() for _ in range(3)]
    for entry in entries:
        round_.add(entry, 1000, 1)
    round_.begin(1024)
    assert next(round_.left) is entries[0]
    round_.began = 1.0
    assert round_.rest(1.25, over=False)
    assert round_.due == 1500
    round_.begin(1500)
    assert list(round_.left) == entries[1:]
    round_.began = 1.5
    assert round_.rest(1.75, over=True)
    assert round_.due == 2048
    round_.begin(2048)
    assert list(round_.left) == entries


def test_a_round_that_was_left_by_all_within_a_piece_begins_anew() -> None:
    round_: Any = made(0)
    first, second = Entry(), Entry()
    round_.add(first, 1000, 1)
    round_.begin(1001)
    round_.rest(1.002, over=False)
    del round_.entries[first]
    round_.add(second, 1002, 1)
    round_.begin(1003)
    assert list(round_.left) == [second]


def test_the_share_holds_for_those_that_come_when_nobody_waits_any_more() -> None:
    round_: Any = made(0)
    round_.due = 2000
    round_.add(Entry(), 1000, 1)
    assert round_.due == 2000


def test_a_round_goes_on_where_one_leaves_while_it_is_asked() -> None:
    round_: Any = made(0)
    entries = [Entry() for _ in range(3)]
    for entry in entries:
        round_.add(entry, 1000, 1)
    round_.begin(1001)
    assert next(round_.left) is entries[0]
    del round_.entries[entries[1]]
    assert list(round_.left) == entries[1:]


def test_those_that_were_named_are_no_round() -> None:
    entries: Any = [Entry(), Entry()]
    batch = Batch(entries)
    assert list(batch.left) == entries and not batch.steady
    assert not batch.rest(1.0, over=False)
    assert batch.rest(1.0, over=True)
