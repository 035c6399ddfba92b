"""The outbox against a model: a plain list of what waits.

Rules of this file
  1. The machine does to both what an owner could do, in any order, and after each step compares all
     that can be asked.
  2. The bounds are small, so that they are reached often.
"""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import NamedTuple

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from green_router.messages.parked import ParkedReplies
from green_router.messages.size import MESSAGE_BYTES, body_bytes, bytes_of
from green_router.serving.reply_envelope import envelope_of

PEERS = [b"a", b"b", b"c"]


class Waiting(NamedTuple):
    """One reply in the model."""

    peer: bytes
    item: int
    bytes: int
    parked_at: float


class OutboxMachine(RuleBasedStateMachine):
    """Parks, sends, drops and expires; ``model`` is everything that waits, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[Waiting] = []
        self.now = 1000.0
        self.made = 0

    @initialize(
        per_peer=st.integers(0, 5 * MESSAGE_BYTES), altogether=st.integers(0, 10 * MESSAGE_BYTES)
    )
    def limits(self, per_peer: int, altogether: int) -> None:
        self.per_peer, self.altogether = per_peer, altogether
        self.outbox = ParkedReplies(per_peer, altogether)

    def of(self, peer: bytes) -> list[Waiting]:
        return [waiting for waiting in self.model if waiting.peer == peer]

    @rule(peer=st.sampled_from(PEERS), size=st.integers(0, 3 * MESSAGE_BYTES) | st.just(0))
    def park(self, peer: bytes, size: int) -> None:
        self.made += 1
        waiting = Waiting(peer, self.made, size + MESSAGE_BYTES, self.now)
        held = sum(other.bytes for other in self.of(peer))
        fits = (held + waiting.bytes <= self.per_peer if held else self.per_peer > 0) and sum(
            other.bytes for other in self.model
        ) + waiting.bytes <= self.altogether
        assert self.outbox.park(peer, waiting.item, size, self.now) is fits
        if fits:
            self.model.append(waiting)

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def send_first(self, data: st.DataObject) -> None:
        peer = data.draw(st.sampled_from(sorted({waiting.peer for waiting in self.model})))
        first = self.of(peer)[0]
        assert self.outbox.first(peer) == first.item
        self.outbox.remove_first(peer)
        self.model.remove(first)

    @rule(peer=st.sampled_from(PEERS))
    def drop(self, peer: bytes) -> None:
        gone = self.of(peer)
        assert self.outbox.drop(peer) == [waiting.item for waiting in gone]
        self.model = [waiting for waiting in self.model if waiting not in gone]

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule(age=st.sampled_from([0.0, 0.5, 1.0, 1.5, 20.0]))
    def expire(self, age: float) -> None:
        gone = [waiting for waiting in self.model if waiting.parked_at <= self.now - age]
        expired = list(self.outbox.expire(self.now - age))
        assert sorted(expired) == [waiting.item for waiting in gone]
        for peer in PEERS:
            order = [waiting.item for waiting in gone if waiting.peer == peer]
            assert [item for item in expired if item in order] == order
        self.model = [waiting for waiting in self.model if waiting not in gone]

    @invariant()
    def same_as_the_model(self) -> None:
        if not hasattr(self, "outbox"):
            return
        assert len(self.outbox) == self.outbox.count == len(self.model)
        assert self.outbox.bytes == sum(waiting.bytes for waiting in self.model) <= self.altogether
        assert self.outbox.oldest() == min(
            (waiting.parked_at for waiting in self.model), default=None
        )
        assert self.outbox.peers.keys() == {waiting.peer for waiting in self.model}
        for peer, queue in self.outbox.peers.items():
            assert [item for item, _, _ in queue.items] == [
                waiting.item for waiting in self.of(peer)
            ]
            assert queue.bytes == sum(waiting.bytes for waiting in self.of(peer))
            assert queue.bytes <= self.per_peer or len(queue.items) == 1

    def teardown(self) -> None:
        """Whatever happened: once all is dropped, nothing is held."""
        if hasattr(self, "outbox"):
            assert sorted(item for peer in PEERS for item in self.outbox.drop(peer)) == [
                waiting.item for waiting in self.model
            ]
            assert (self.outbox.count, self.outbox.bytes, self.outbox.peers) == (0, 0, {})


TestOutbox = OutboxMachine.TestCase

ROOM = 3 * MESSAGE_BYTES

BOUNDS = [
    ("it fits exactly", (ROOM, ROOM), [(b"a", ROOM - MESSAGE_BYTES)], [True]),
    (
        "one byte too many for the peer",
        (ROOM, 2 * ROOM),
        [(b"a", 0), (b"a", ROOM - 2 * MESSAGE_BYTES + 1)],
        [True, False],
    ),
    (
        "too large for the peer, and alone",
        (ROOM, 4 * ROOM),
        [(b"a", 2 * ROOM), (b"a", 0), (b"b", ROOM)],
        [True, False, True],
    ),
    ("too large altogether, and alone", (ROOM, ROOM), [(b"a", ROOM)], [False]),
    ("one byte too many altogether", (2 * ROOM, ROOM), [(b"a", ROOM - MESSAGE_BYTES + 1)], [False]),
    ("empty replies are not free", (ROOM, ROOM), [(b"a", 0)] * 4, [True, True, True, False]),
    (
        "one peer does not take another's room",
        (ROOM, 2 * ROOM),
        [(b"a", 0)] * 4 + [(b"b", 0)],
        [True] * 3 + [False, True],
    ),
    (
        "all peers share the whole",
        (ROOM, ROOM),
        [(b"a", 0), (b"b", 0), (b"c", 0), (b"d", 0)],
        [True] * 3 + [False],
    ),
    (
        "a smaller one may follow a refused one",
        (ROOM, ROOM),
        [(b"a", ROOM), (b"a", 0)],
        [False, True],
    ),
    ("no room at all", (0, 0), [(b"a", 0)], [False]),
    ("no room for any peer", (0, ROOM), [(b"a", 0)], [False]),
]


@pytest.mark.parametrize(("_", "limits", "replies", "fit"), BOUNDS)
def test_bounds(
    _: str, limits: tuple[int, int], replies: list[tuple[bytes, int]], fit: list[bool]
) -> None:
    outbox = ParkedReplies(*limits)
    assert [
        outbox.park(peer, number, size, 0.0) for number, (peer, size) in enumerate(replies)
    ] == fit


def test_what_is_refused_leaves_no_trace() -> None:
    outbox = ParkedReplies(ROOM, ROOM)
    assert not outbox.park(b"a", "too large", ROOM, 0.0)
    assert (outbox.peers, outbox.bytes, outbox.count, outbox.oldest()) == ({}, 0, 0, None)


def test_any_object_may_wait() -> None:
    outbox = ParkedReplies(ROOM, ROOM)
    for item in (None, False, []):
        outbox.park(b"a", item, 0, 0.0)
    assert outbox.drop(b"a") == [None, False, []]


def test_what_expires_is_gone_before_it_is_handed_out() -> None:
    """Whoever takes it may look at the outbox, or park again, meanwhile."""
    outbox = ParkedReplies(ROOM, ROOM)
    for number in range(3):
        outbox.park(b"a", number, 0, float(number))
    left = []
    for item in outbox.expire(1.0):
        left.append((item, len(outbox)))
        assert outbox.park(b"a", "again", 0, 5.0)
    assert left == [(0, 2), (1, 2)]


@pytest.mark.parametrize("peers", [1, 10, 100])
def test_what_is_counted_is_what_it_costs(peers: int) -> None:
    """Small replies, parked as the server does it: objects, envelopes and places in tables are
    counted too, and not twice."""
    outbox = ParkedReplies(10**9, 10**9)
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    for number in range(10_000):
        request = SimpleNamespace(
            frames=[b"%5d" % (number % peers), b"", bytes(100)],
            envelope_length=2,
            received_at=1000.0 + number,
            origin=None,
        )
        kept, body = envelope_of(request), b"%10d" % number
        assert outbox.park(
            request.frames[0],
            (kept, body, 0),
            bytes_of(kept.frames) + body_bytes(body),
            1000.0 + number,
        )
    del request, kept, body
    costs = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert 0.6 * outbox.bytes < costs <= outbox.bytes
