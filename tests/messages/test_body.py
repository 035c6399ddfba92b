"""What may be the body of a reply, and what comes of it: bytes, or a list of several."""

from __future__ import annotations

import mmap
from array import array
from typing import Any

import pytest

from green_router.errors import BadReply
from green_router.messages.body import body_of, frame_of, plain


class Frame(bytes):
    """It only looks like bytes to marshal."""


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (b"x", b"x"),
        (bytearray(b"x"), b"x"),
        (memoryview(b"xyz")[1:], b"yz"),
        (array("B", [120, 121]), b"xy"),
        (Frame(b"x"), b"x"),
        ([b"x"], b"x"),
        ([b"x", bytearray(b"y")], [b"x", b"y"]),
        ([b"", Frame(b"")], [b"", b""]),
    ],
)
def test_what_is_a_body(value: Any, body: Any) -> None:
    made = body_of(value, "handler")
    assert made == body
    assert {type(frame) for frame in (made if isinstance(made, list) else [made])} == {bytes}


def test_what_may_be_changed_is_copied() -> None:
    whole, part = bytearray(b"before"), [b"x", bytearray(b"before")]
    made = body_of(whole, "handler"), body_of(part, "handler")
    whole[:] = part[1][:] = b"after!"
    assert made == (b"before", [b"x", b"before"])


@pytest.mark.parametrize("value", ["text", None, 5, [], ["x"], [b"x", None], [[b"x"]], {b"x"}])
def test_what_is_no_body_is_told_with_the_name_of_the_handler(value: Any) -> None:
    with pytest.raises(BadReply, match="my_handler"):
        body_of(value, "my_handler")


def test_a_buffer_that_cannot_be_read_as_it_is() -> None:
    with pytest.raises(BadReply, match="not contiguous"):
        frame_of(memoryview(b"abcd")[::2], "handler")
    with mmap.mmap(-1, 1) as closed:
        pass
    with pytest.raises(BadReply, match="that cannot be read"):
        frame_of(closed, "handler")


async def coroutine() -> bytes:
    return b"never"


@pytest.mark.parametrize("several", [False, True])
def test_a_coroutine_is_closed_and_the_error_says_to_await_it(several: bool) -> None:
    """Python would warn of it later, somewhere else; warnings are errors here."""
    with pytest.raises(BadReply, match="await it where it was made"):
        body_of([b"x", coroutine(), coroutine()] if several else coroutine(), "handler")


@pytest.mark.parametrize(
    ("result", "body"),
    [
        ([b"x"], b"x"),
        ([b"x", b"y"], [b"x", b"y"]),
        ((b"me", b"x"), b"x"),
        ((b"me", [b"x"]), b"x"),
        ((b"me", [b"x", b"y"]), [b"x", b"y"]),
        # Somebody has to look at these.
        (b"x", None),
        ([], None),
        ([b"me", b"x"], None),
        ((b"other", b"x"), None),
        ((b"me", b"x", b"y"), None),
        ((b"me", "x"), None),
        ([b"x", "y"], None),
        ([Frame(b"x")], None),
        (None, None),
    ],
)
def test_what_most_handlers_return_needs_no_second_look(result: Any, body: Any) -> None:
    assert plain(result, b"me") == body


def test_a_list_is_not_the_callers_any_more() -> None:
    result = [b"x", b"y"]
    assert plain(result, b"me") is not result
