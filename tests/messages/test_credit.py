"""Words between a proxy and a server: each is read as it was said, and nothing else is one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from green_router.messages.credit import BYE, GREET, LOAD, greeting, load_of, read

numbers = st.integers(0, 2**64 - 1)


@given(numbers, numbers, numbers, numbers)
def test_a_load_is_read_as_it_was_said(epoch: int, taken: int, in_hand: int, window: int) -> None:
    assert read(load_of(epoch, taken, in_hand, window)) == (LOAD, (epoch, taken, in_hand, window))


@given(numbers)
def test_a_greeting_is_read_as_it_was_said(epoch: int) -> None:
    assert read(greeting(epoch)) == (GREET, (epoch,))


def test_a_farewell_has_no_numbers() -> None:
    assert read(BYE) == (BYE, ())


@pytest.mark.parametrize(
    "word",
    [
        b"",
        b"green-router/1",
        b"green-router/2 bye",
        BYE + b" ",
        LOAD,
        GREET,
        load_of(1, 2, 3, 4)[:-1],
        greeting(1) + b"\0",
    ],
)
def test_what_is_cut_or_of_another_version_is_no_word(word: bytes) -> None:
    assert read(word) is None


@given(st.binary(max_size=64))
def test_any_bytes_are_a_word_or_none(word: bytes) -> None:
    found = read(word)
    assert found is None or found[0] in (LOAD, GREET, BYE)
