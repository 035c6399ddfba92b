"""Who works for a proxy, and how much each has in hand."""

from __future__ import annotations

import pytest

from green_router.messages.credit import BYE, GREET, LOAD, greeting, load_of, read
from green_router.proxy.roster import SILENT_AFTER, Roster


def roster(**windows):
    made = Roster()
    for name, window in windows.items():
        key = name.encode()
        made.hear(key, made.greet(key, 0.0), 0, 0, window, 0.0)
    return made


def given(made, count, now=0.0):
    """Who gets that many requests, by how many."""
    got = {}
    for _ in range(count):
        worker = made.next(now)
        if worker is None:
            break
        got[worker.key.decode()] = got.get(worker.key.decode(), 0) + 1
        made.give(worker)
    return got


def test_the_least_busy_is_next():
    made = roster(a=10, b=10)
    made.hear(b"a", 1, 0, 6, 10, 0.0)
    assert given(made, 4) == {"b": 4}
    assert given(made, 4) == {"b": 3, "a": 1}


def test_a_larger_window_gets_more():
    assert given(roster(small=10, large=30), 20) == {"small": 5, "large": 15}


def test_nobody_gets_more_than_its_window():
    made = roster(a=3, b=2)
    assert sum(given(made, 100).values()) == 5
    assert made.next(0.0) is None
    made.hear(b"a", 1, 3, 2, 3, 0.0)  # all three have come, one is settled
    assert given(made, 100) == {"a": 1}


def test_what_is_on_its_way_counts():
    made = roster(a=5)
    given(made, 4)
    made.hear(b"a", 1, 1, 1, 5, 0.0)  # said when it had taken one of four
    assert made.workers[b"a"].in_hand == 4


def test_what_was_sent_before_the_greeting_is_not_on_its_way():
    made = roster(a=5)
    given(made, 4)
    epoch = made.greet(b"a", 1.0)
    made.hear(b"a", epoch - 1, 4, 4, 5, 1.0)
    assert made.next(1.0) is None
    made.hear(b"a", epoch, 0, 4, 5, 1.0)
    assert given(made, 100, 1.0) == {"a": 1}


def test_one_that_is_silent_or_leaves_gets_nothing():
    made = roster(a=5, b=5)
    made.workers[b"b"].leaving = True
    assert given(made, 1) == {"a": 1}
    assert made.next(SILENT_AFTER) is None
    made.hear(b"a", 1, 1, 0, 5, SILENT_AFTER)
    assert given(made, 1, SILENT_AFTER) == {"a": 1}


def test_what_was_in_hand_of_one_that_has_gone_is_lost():
    made = roster(a=5)
    given(made, 3)
    assert made.in_hand == 3
    assert made.strike(b"a") == made.lost == 3
    assert made.in_hand == 0


def test_words_are_read_as_written():
    assert read(load_of(1, 2, 3, 4)) == (LOAD, (1, 2, 3, 4))
    assert read(greeting(7)) == (GREET, (7,))
    assert read(BYE) == (BYE, ())


@pytest.mark.parametrize(
    "word", [b"", b"hello", LOAD, LOAD + b"\0", GREET + b"123456789", BYE + b"x"]
)
def test_what_is_no_word_is_none(word):
    assert read(word) is None


def test_a_thousand_servers_are_not_asked_in_vain():
    """What is said often leaves nothing behind."""
    made = roster(**{f"s{number}": 8 for number in range(1000)})
    for turn in range(1, 101):
        for number in range(1000):
            made.hear(f"s{number}".encode(), number + 1, 0, turn % 8, 8, 0.0)
    assert len(made._order) <= 4 * 1000 + 64
    assert len(given(made, 1000)) == 1000
