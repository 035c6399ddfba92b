"""Admission against a model: a plain list of the messages that are unsettled.

Rules of this file
  1. The machine counts messages in and out in any order, and after each step compares all that can
     be asked.
  2. The limits are small, so that they are reached often.
"""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from green_router.messages.admission import Admission
from green_router.messages.size import FRAME_BYTES, MESSAGE_BYTES

PEERS = [b"a", b"b", b"long id"]


def size(frames: list[bytes]) -> int:
    return MESSAGE_BYTES + sum(FRAME_BYTES + len(frame) for frame in frames)


class AdmissionMachine(RuleBasedStateMachine):
    """Admits and releases; ``model`` is every message that is unsettled, oldest first."""

    def __init__(self) -> None:
        super().__init__()
        self.model: list[list[bytes]] = []

    @initialize(
        count=st.integers(1, 6),
        bytes_=st.none() | st.integers(1, 3000),
        per_peer=st.none() | st.integers(1, 3),
        bytes_per_peer=st.none() | st.integers(1, 1600),
        refusing=st.booleans(),
    )
    def limits(
        self,
        count: int,
        bytes_: int | None,
        per_peer: int | None,
        bytes_per_peer: int | None,
        refusing: bool,
    ) -> None:
        self.count, self.bytes, self.per_peer, self.bytes_per_peer, self.refusing = (
            count,
            bytes_,
            per_peer,
            bytes_per_peer,
            refusing,
        )
        self.admission = Admission(count, bytes_, per_peer, bytes_per_peer, refusing)

    def of(self, peer: bytes) -> list[list[bytes]]:
        return [frames for frames in self.model if frames[0] == peer]

    def within(self, messages: list[list[bytes]], count: int | None, bytes_: int | None) -> bool:
        return (count is None or len(messages) <= count) and (
            bytes_ is None or sum(map(size, messages)) <= bytes_
        )

    @rule(
        peer=st.sampled_from(PEERS), body=st.lists(st.binary(max_size=12), min_size=1, max_size=3)
    )
    def admit(self, peer: bytes, body: list[bytes]) -> None:
        """It may come in if with it nothing is above its limit; the whole has one only where that
        refuses."""
        frames = [peer, *body]
        self.model.append(frames)
        welcome = self.within(self.of(peer), self.per_peer, self.bytes_per_peer) and (
            not self.refusing or self.within(self.model, self.count, self.bytes)
        )
        assert self.admission.admit(frames) is welcome

    @precondition(lambda self: self.model)
    @rule(which=st.integers(0, 50))
    def release(self, which: int) -> None:
        self.admission.release(self.model.pop(which % len(self.model)))

    @rule()
    def release_one_that_nobody_knows(self) -> None:
        """What is abandoned at the end has lost its frames; no peer's account may break over it."""
        before = dict(self.admission._peers or {})
        count, held = self.admission.count, self.admission.bytes
        self.admission.release([b""])
        assert dict(self.admission._peers or {}) == before
        self.admission.count, self.admission.bytes = count, held

    @invariant()
    def same_as_the_model(self) -> None:
        if not hasattr(self, "admission"):
            return
        admission = self.admission
        assert (admission.count, admission.bytes) == (len(self.model), sum(map(size, self.model)))
        full = len(self.model) >= self.count or (
            self.bytes is not None and admission.bytes >= self.bytes
        )
        assert admission.reached is full
        table = admission._peers
        assert (table is None) == (self.per_peer is None and self.bytes_per_peer is None)
        if table is not None:
            assert table == {
                peer: [len(self.of(peer)), sum(map(size, self.of(peer)))]
                for peer in PEERS
                if self.of(peer)
            }

    def teardown(self) -> None:
        """Whatever happened: once all have their fates, nothing is held."""
        while self.model:
            self.release(0)
        self.same_as_the_model()


TestAdmission = AdmissionMachine.TestCase

NEEDED = [
    ({}, False),
    ({"max_bytes": 1}, True),
    ({"max_count_per_peer": 1}, True),
    ({"max_bytes_per_peer": 1}, True),
    ({"refusing": True}, True),
]


@pytest.mark.parametrize(("limits", "needed"), NEEDED)
def test_nobody_asks_where_the_number_in_flight_is_the_only_limit(
    limits: dict[str, int], needed: bool
) -> None:
    assert Admission(10, **limits).needed is needed
