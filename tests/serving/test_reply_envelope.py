"""What stands in mail where a request would: no more than it takes to send a reply."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any

import pytest

from green_router.messages.request import Request
from green_router.serving import reply_envelope
from green_router.serving.reply_envelope import (
    NO_ENVELOPE,
    AddressedPush,
    ReplyEnvelope,
    came_by,
    envelope_of,
)


def request(*frames: bytes, envelope_length: int, origin: Any = None) -> Request:
    server: Any = None
    return Request([*frames], envelope_length, 12.5, origin, server)


@pytest.mark.parametrize(
    ("frames", "length"),
    [
        ([b"peer", b"", b"x"], 2),
        ([b"peer", b"x"], 1),
        ([b"peer", b"hop", b"", b"x", b"y"], 3),
        ([b"\0peer", b"", b""], 2),
    ],
)
def test_the_envelope_alone_is_kept(frames: list[bytes], length: int) -> None:
    asked = request(*frames, envelope_length=length)
    envelope = envelope_of(asked)
    assert envelope.frames == frames[:length]
    assert (envelope.envelope_length, envelope.received_at) == (length, 12.5)
    assert asked.frames == frames, "the request keeps its own"


def test_the_body_is_let_go() -> None:
    class Body(bytes):
        pass

    body = Body(b"x")
    gone: list[bool] = []
    asked = request(b"peer", b"", body, envelope_length=2)
    whole = weakref.ref(asked, lambda _: gone.append(True))
    envelope = envelope_of(asked)
    del asked
    gc.collect()
    assert (gone, whole()) == ([True], None)
    assert body not in envelope.frames


@pytest.mark.parametrize(
    ("routing_id", "kept"),
    [(b"chosen", 17), (b"\0made", None)],
    ids=["a name of its own", "a name that libzmq has made"],
)
def test_a_client_that_may_come_back_by_its_name_is_told_apart_by_its_connection(
    monkeypatch: pytest.MonkeyPatch, routing_id: bytes, kept: int | None
) -> None:
    """libzmq never makes the same name twice, so there is nothing to keep."""
    monkeypatch.setattr(reply_envelope, "descriptor_of", lambda origin: origin.descriptor)
    asked = request(routing_id, b"", b"x", envelope_length=2, origin=SimpleNamespace(descriptor=17))
    assert came_by(asked) == envelope_of(asked).origin == kept


def test_a_push_that_a_handler_addresses_knows_who_is_told_that_nobody_is_there() -> None:
    told: list[bytes] = []
    push = AddressedPush([b"peer", b""], told.append)
    assert isinstance(push, ReplyEnvelope)
    assert (push.frames, push.envelope_length) == ([b"peer", b""], 2)
    assert (push.received_at, push.origin) == (0.0, None)
    push.unknown(push.frames[0])
    assert told == [b"peer"]


def test_there_is_one_for_nobody() -> None:
    """Which is no routing id: nothing can be sent with it."""
    assert (NO_ENVELOPE.frames, NO_ENVELOPE.envelope_length) == ([b""], 0)


def test_it_has_slots() -> None:
    """One is kept for each reply that waits."""
    for envelope in (NO_ENVELOPE, AddressedPush([b"peer"], lambda peer: None)):
        assert not hasattr(envelope, "__dict__")
