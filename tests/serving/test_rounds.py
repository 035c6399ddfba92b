"""When the requests of a round are asked, and what is still known of them then."""

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
    round_.began, round_.spent = 1.001, 0.25
    round_.over()
    assert round_.due == 1001 + share * 250
    assert not round_.began and not round_.spent


def test_the_share_holds_for_those_that_come_when_nobody_waits_any_more() -> None:
    round_: Any = made(0)
    round_.due = 2000
    round_.add(Entry(), 1000, 1)
    assert round_.due == 2000


def test_what_is_known_holds_until_something_is_learned_or_they_are_too_old() -> None:
    round_: Any = made(0)
    first, second = Entry(), Entry()
    round_.add(first, 1000, 1)
    round_.add(second, 1000, 1)
    round_.until = 1010
    assert first.round is second.round is round_

    round_.begin(1, 1009)
    assert round_.steady and list(round_.left) == [first, second]
    round_.begin(1, 1010)
    assert not round_.steady
    round_.until = 2000  # somebody has looked at each
    round_.begin(1, 1011)
    assert round_.steady
    round_.begin(2, 1012)
    assert not round_.steady


def test_a_round_goes_on_where_one_leaves_while_it_is_asked() -> None:
    round_: Any = made(0)
    entries = [Entry() for _ in range(3)]
    for entry in entries:
        round_.add(entry, 1000, 1)
    round_.begin(1, 1001)
    assert next(round_.left) is entries[0]
    del round_.entries[entries[1]]
    assert list(round_.left) == entries[1:]


def test_those_that_were_named_are_no_round() -> None:
    entries: Any = [Entry(), Entry()]
    batch = Batch(entries)
    assert list(batch.left) == entries and not batch.steady
    batch.over()
