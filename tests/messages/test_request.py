"""A request as a handler sees it.

Rules of this file
  1. What a request asks of its server is answered by a server handle that notes the question: the
     server's own is tested with the server.
"""

from __future__ import annotations

import copy
import pickle
import threading
import weakref
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from green_router.errors import ReplyError
from green_router.messages.request import BytesLike, Elsewhere, Request

ID = b"\0\x80\0\0\x29"


class Noting:
    """A server handle that notes what is asked of it, and that cannot be pickled."""

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.lock = threading.Lock()

    def reply(self, request: Request, frames: tuple[BytesLike, ...], final: bool) -> None:
        self.asked.append(("reply", request, frames, final))

    def replied(self, request: Request) -> bool:
        self.asked.append(("replied", request))
        return True

    def age(self, request: Request) -> float:
        self.asked.append(("age", request))
        return 1.5

    def time_left(self, request: Request) -> float | None:
        self.asked.append(("time_left", request))
        return 0.25

    def connection_property(self, request: Request, name: str) -> str | None:
        self.asked.append(("connection_property", request, name))
        return {"Peer-Address": "127.0.0.1", "User-Id": "", "Role": ""}[name]


def request(*frames: bytes, envelope_length: int = 2) -> Request:
    return Request([ID, *frames], envelope_length, 12.5, None, Noting())


# -- what it shows ---------------------------------------------------------------------------------


SHAPES = [
    ("REQ", [ID, b"", b"hello"], 2, b"hello", [b"hello"]),
    ("REQ_CORRELATE", [ID, b"\0\0\0\1", b"", b"hello"], 3, b"hello", [b"hello"]),
    ("bare", [ID, b"hello", b"world"], 1, b"hello", [b"hello", b"world"]),
    ("an empty body", [ID, b"", b""], 2, b"", [b""]),
]


@pytest.mark.parametrize(("_", "frames", "envelope_length", "data", "body"), SHAPES)
def test_parts(
    _: str, frames: list[bytes], envelope_length: int, data: bytes, body: list[bytes]
) -> None:
    shown = Request(frames, envelope_length, 12.5, None, Noting())
    assert (shown.routing_id, shown.data, shown.body, shown.envelope) == (
        ID,
        data,
        body,
        frames[:envelope_length],
    )
    assert (shown.received_at, shown.envelope_length, shown.frames) == (
        12.5,
        envelope_length,
        frames,
    )


def test_it_is_the_pair_of_the_original_loop() -> None:
    pair = request(b"", b"hello", b"world")
    client_id, data = pair
    assert (client_id, data) == tuple(pair) == (ID, b"hello")
    assert len(pair) == 2
    assert (pair[0], pair[1], pair[-1], pair[-2]) == (ID, b"hello", b"hello", ID)
    assert ID in pair
    assert bool(request(b"", b"")) is True


@pytest.mark.parametrize("index", [2, -3])
def test_a_pair_has_two(index: int) -> None:
    with pytest.raises(IndexError):
        request(b"", b"hello")[index]


def test_what_it_shows_is_the_askers_own() -> None:
    shown = request(b"", b"hello")
    shown.envelope.append(b"x")
    shown.body.clear()
    assert (shown.envelope, shown.body) == ([ID, b""], [b"hello"])


def test_two_requests_of_the_same_frames_are_two() -> None:
    one, other = request(b"", b"x"), request(b"", b"x")
    assert one != other
    assert len({one, other}) == 2


def test_it_equals_the_pair_that_a_loop_passes_around() -> None:
    pair, of_the_loop = request(b"", b"hello", b"world"), (ID, b"hello")
    assert pair == of_the_loop
    assert of_the_loop == pair
    assert hash(pair) == hash(of_the_loop)
    assert [pair != of_the_loop, of_the_loop != pair] == [False, False]
    for other in [
        (ID, b"other"),
        (b"other", b"hello"),
        (ID,),
        (ID, b"", b"hello"),
        [ID, b"hello"],
        ID,
        None,
        5,
    ]:
        assert pair != other
        assert other != pair


def test_it_is_found_by_the_pair_and_the_pair_by_it() -> None:
    """A worker thread has the tuple, the handler the request, or the other way round."""
    asked = request(b"", b"hello")
    assert asked in {(ID, b"hello"): 1}
    assert asked in {(ID, b"hello")}
    assert asked in [(ID, b"hello")]
    assert {(ID, b"hello"): 1}.pop(asked) == 1
    assert (ID, b"hello") in {asked: 1}
    assert {asked: 1}[ID, b"hello"] == 1
    assert (ID, b"hello") in [asked]


def test_the_same_asked_twice_is_two_in_a_table() -> None:
    one, other = request(b"", b"x"), request(b"", b"x")
    jobs = {one: 1, other: 2}
    assert (jobs[one], jobs[other], len(jobs)) == (1, 2, 2)
    assert jobs.pop(other) == 2
    assert one in jobs
    assert other not in jobs
    kept = weakref.WeakKeyDictionary(jobs)
    assert kept[one] == 1
    assert pickle.loads(pickle.dumps(one)) != one


def test_it_has_slots() -> None:
    """It is made for every message."""
    shown = request(b"", b"x")
    assert not hasattr(shown, "__dict__")
    assert not hasattr(Elsewhere(0.0, None, {}), "__dict__")
    with pytest.raises(AttributeError):
        shown.colour = "green"  # type: ignore[attr-defined]


# -- its repr --------------------------------------------------------------------------------------


REPRS = [
    ([ID, b"", b"hi"], "<Request from 0080000029: 1 frames, 2 bytes 6869>"),
    ([ID, b"", b"12345678"], "<Request from 0080000029: 1 frames, 8 bytes 3132333435363738>"),
    (
        [ID, b"", b"123456789", b"abc"],
        "<Request from 0080000029: 2 frames, 12 bytes 3132333435363738...>",
    ),
    ([ID, b"", b""], "<Request from 0080000029: 1 frames, 0 bytes>"),
]


@pytest.mark.parametrize(("frames", "shown"), REPRS)
def test_repr(frames: list[bytes], shown: str) -> None:
    assert (
        repr(Request(frames, 2, 0.0, None, Noting()))
        == str(Request(frames, 2, 0.0, None, Noting()))
        == shown
    )


@given(st.lists(st.binary(max_size=3000), min_size=1, max_size=4))
def test_a_repr_depends_on_sizes_and_the_first_eight_bytes_only(body: list[bytes]) -> None:
    blank = [body[0][:8].ljust(len(body[0]), b"\0"), *(bytes(len(frame)) for frame in body[1:])]
    shown = repr(request(b"", *body))
    assert shown == repr(request(b"", *blank))
    assert shown.isascii()


# -- what it asks of its server --------------------------------------------------------------------


ASKS = [
    (lambda r: r.reply(b"a"), ("reply", (b"a",), True), None),
    (lambda r: r.reply(), ("reply", (), True), None),
    (
        lambda r: r.reply(b"a", bytearray(b"b"), final=False),
        ("reply", (b"a", bytearray(b"b")), False),
        None,
    ),
    (lambda r: r.replied, ("replied",), True),
    (lambda r: r.age, ("age",), 1.5),
    (lambda r: r.time_left, ("time_left",), 0.25),
    (lambda r: r.peer_address, ("connection_property", "Peer-Address"), "127.0.0.1"),
    (lambda r: r.user_id, ("connection_property", "User-Id"), None),
    (lambda r: r.role, ("connection_property", "Role"), None),
]


@pytest.mark.parametrize(
    ("ask", "question", "answer"), ASKS, ids=[str(question) for _, question, _ in ASKS]
)
def test_asks(ask: Any, question: tuple[Any, ...], answer: Any) -> None:
    handle = Noting()
    asking = Request([ID, b"", b"x"], 2, 12.5, None, handle)
    assert ask(asking) == answer
    assert handle.asked == [(question[0], asking, *question[1:])]


def test_nothing_is_asked_unless_somebody_wants_to_know() -> None:
    handle = Noting()
    quiet = Request([ID, b"", b"x"], 2, 12.5, None, handle)
    list(quiet)
    repr(quiet)
    assert (quiet.body, quiet.envelope, handle.asked) == ([b"x"], [ID, b""], [])


# -- copies ----------------------------------------------------------------------------------------


COPIES = [
    (f"pickle {protocol}", lambda r, protocol=protocol: pickle.loads(pickle.dumps(r, protocol)))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
]
COPIES += [
    ("copy", copy.copy),
    ("deepcopy", copy.deepcopy),
    ("pickled twice", lambda r: pickle.loads(pickle.dumps(pickle.loads(pickle.dumps(r))))),
]


@pytest.mark.parametrize(("_", "copied"), COPIES, ids=[name for name, _ in COPIES])
def test_a_copy_is_plain_data(_: str, copied: Any) -> None:
    original = Request([ID, b"\0\0\0\1", b"", b"hello", b"world"], 3, 12.5, object(), Noting())
    twin = copied(original)
    assert type(twin) is Request
    assert (twin.frames, twin.envelope_length, twin.received_at, twin.origin) == (
        original.frames,
        3,
        12.5,
        None,
    )
    assert tuple(twin) == tuple(original)
    assert (twin.age, twin.time_left) == (1.5, 0.25)
    assert (twin.peer_address, twin.user_id) == ("127.0.0.1", None)
    assert twin.replied is False
    assert repr(twin) == repr(original)


@pytest.mark.parametrize("final", [False, True])
def test_a_copy_cannot_reply(final: bool) -> None:
    twin = pickle.loads(pickle.dumps(request(b"", b"x")))
    with pytest.raises(ReplyError, match="return the reply instead"):
        twin.reply(b"y", final=final)


@given(
    st.binary(min_size=1, max_size=255), st.lists(st.binary(), min_size=1, max_size=5), st.data()
)
def test_any_frames_survive_pickling(
    routing_id: bytes, others: list[bytes], data: st.DataObject
) -> None:
    frames = [routing_id, *others]
    original = Request(frames, data.draw(st.integers(1, len(others))), 0.0, None, Noting())
    twin = pickle.loads(pickle.dumps(original))
    assert (twin.envelope, twin.body, twin.data) == (
        original.envelope,
        original.body,
        original.data,
    )
