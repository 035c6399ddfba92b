"""Pauses between two questions: at which ages they are short, and what is learned for that."""

from __future__ import annotations

from itertools import pairwise

import pytest

from green_router.serving.pauses import (
    ENOUGH,
    EXPECTED,
    REST,
    UNEXPECTED,
    UNKNOWN,
    Experience,
    pause_at,
)

AGES = [0, 1, 7, 8, 15, 16, 17, 100, 1000, 12345, 10**6, 2**31, 2**40]


def experience(*ages):
    made = Experience()
    for age in ages:
        made.learn(age)
    return made


def known(made, age):
    return made.pause(age)[0] >> 5


def milliseconds(made, age):
    return 1 << (made.pause(age)[0] & 31)


@pytest.mark.parametrize("age", AGES)
def test_where_nothing_was_learned_a_pause_is_a_small_part_of_the_age(age):
    made = experience()
    assert known(made, age) == UNKNOWN
    assert milliseconds(made, age) <= max(1, age / 256)


def test_what_is_said_of_an_age_holds_until_the_next():
    made = experience(*range(20, 50), *range(1000, 1100), *[20] * ENOUGH)
    age, said = 0, []
    while age < 10_000:
        key, until = made.pause(age)
        assert until > age
        assert {made.pause(other)[0] for other in range(age, until)} == {key}
        said.append(key)
        age = until
    assert all(before != after for before, after in pairwise(said))


def test_ages_at_which_replies_came_are_told_from_those_at_which_none_did():
    made = experience(*[30] * ENOUGH, 1000)
    assert [known(made, age) for age in (2, 30, 200, 1000, 5000)] == [
        UNEXPECTED,
        EXPECTED,
        UNEXPECTED,
        EXPECTED,
        UNKNOWN,
    ]
    assert milliseconds(made, 30) == 1
    assert milliseconds(made, 2) == 4


def test_the_eighths_beside_an_age_count_as_it():
    """So that nobody begins a long pause just before it, and the next ones are found soon."""
    made = experience(*[1024] * ENOUGH, 5000)
    ages = 1024 * 7 // 8, 1023, 1024, 1024 * 10 // 8 - 1, 1024 * 10 // 8
    assert [known(made, age) for age in ages] == [UNEXPECTED, *3 * [EXPECTED], UNEXPECTED]
    assert known(made, 5000 * 10 // 8) == UNKNOWN


def test_few_replies_tell_nothing_of_other_ages():
    made = experience(*[1000] * (ENOUGH - 1))
    assert known(made, 100) == UNKNOWN
    made.learn(1000)
    assert known(made, 100) == UNEXPECTED


def test_what_came_long_ago_is_forgotten():
    made = experience(*[30] * ENOUGH, *[1000] * 3000)
    assert known(made, 30) == UNEXPECTED


def test_questions_leave_time_for_others():
    assert REST[EXPECTED] > 1
    assert REST[UNKNOWN] == REST[UNEXPECTED] >= 8


def test_pauses_have_bounds():
    assert [pause_at(age, 3, 2, 5) for age in (0, 1, 64, 10**6)] == [2, 2, 3, 5]
