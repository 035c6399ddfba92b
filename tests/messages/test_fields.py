"""The fields of a request: the same pair, results and errors, compiled or in Python. What a request
shows beyond is in test_request.py."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from green_router.messages.fields import Fields, PureFields

KINDS = {"pure": PureFields, "in use": Fields}


@pytest.fixture(params=KINDS)
def made(request: pytest.FixtureRequest) -> Any:
    """``made(*frames)``: a class like Request, with the fields of either kind."""

    class Message(KINDS[request.param]):  # type: ignore[misc]
        __slots__ = ("__weakref__", "more")

    return lambda *frames, length=2: Message([b"peer", *frames], length, 1.5, "origin", "server")


def test_they_are_what_was_given(made: Any) -> None:
    message = made(b"", b"hello", b"world")
    assert message.frames == [b"peer", b"", b"hello", b"world"]
    assert (message.envelope_length, message.received_at) == (2, 1.5)
    assert (message.origin, message.server, message.data) == ("origin", "server", b"hello")
    message.more = 5
    assert message.more == 5


@pytest.mark.skipif(Fields is PureFields, reason="Python does not keep the hash")
@pytest.mark.parametrize("name", ["frames", "envelope_length", "data"])
def test_what_the_hash_is_made_of_stays(name: str) -> None:
    message: Any = Fields([b"peer", b"", b"hello"], 2, 1.5, None, None)
    with pytest.raises(AttributeError, match="readonly"):
        setattr(message, name, getattr(message, name))
    with pytest.raises((AttributeError, TypeError)):
        delattr(message, name)


def test_the_pair(made: Any) -> None:
    message = made(b"", b"hello")
    assert tuple(message) == (b"peer", b"hello")
    assert [*message] == [message[0], message[1]] == [message[-2], message[-1]]
    assert (len(message), bool(message)) == (2, True)
    assert b"hello" in message
    with pytest.raises(IndexError):
        message[2]


def test_it_is_found_as_the_pair_and_as_itself(made: Any) -> None:
    message, same = made(b"", b"hello"), made(b"", b"hello")
    pair = (b"peer", b"hello")
    assert message == pair
    assert pair == message
    assert [message != pair, pair != message] == [False, False]
    assert hash(message) == hash(message) == hash(pair)
    assert message != same
    assert {message: 1, same: 2}[message] == 1
    assert pair in {message}
    assert message in {pair: 1}
    assert message not in ((b"peer", b"x"), [b"peer", b"hello"], None, 5)
    with pytest.raises(TypeError, match="'<' not supported"):
        message < pair  # noqa: B015


@pytest.mark.parametrize("length", [3, 2**70])
def test_no_body_is_no_message(made: Any, length: int) -> None:
    with pytest.raises((IndexError, OverflowError)):
        made(b"", b"hello", length=length)


@pytest.mark.parametrize("arguments", [(), ([b"x"], 0, 0.0, None), ([b"x"], "0", 0.0, None, None)])
def test_what_is_missing_is_an_error(made: Any, arguments: tuple[Any, ...]) -> None:
    with pytest.raises(TypeError):
        type(made(b"", b"x"))(*arguments)


def test_one_that_was_not_made_whole_has_no_pair(made: Any) -> None:
    kind = type(made(b"", b"x"))
    half = kind.__new__(kind)
    for ask in (hash, hash, list, lambda it: it[0], lambda it: it == (1, 2), lambda it: it.frames):
        with pytest.raises(AttributeError):
            ask(half)


def test_it_goes_with_its_last_reference(made: Any) -> None:
    """Also where it refers to itself."""
    message = made(b"", b"hello")
    gone = weakref.ref(message)
    del message
    assert gone() is None
    ring: list[Any] = []
    ringed = type(made(b"", b"x"))([b"peer", b"", b"x"], 2, 0.0, ring, None)
    ring.append(ringed)
    gone = weakref.ref(ringed)
    del ring, ringed
    gc.collect()
    assert gone() is None
