"""Envelopes: what real services send, and the laws that hold for any bytes.

Rules of this file
  1. A case is a row. A message that fits has the number of its envelope's frames beside it, one
     that does not the reason.
  2. What is refused is refused as MalformedMessage and nothing else, with sizes and never content.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from green_router import MalformedMessage
from green_router.messages.envelope import EnvelopePolicy, fixed, marker, policy_of

ID = b"\0\x80\0\0\x29"
MARK = b"<IDS|MSG>"

POLICIES = [
    "delimiter",
    "bare",
    "last",
    "fixed:1",
    "fixed:2",
    "fixed:3",
    "fixed:255",
    "marker:<IDS|MSG>",
    "marker:é",
]

FITS = [
    ("REQ", "delimiter", [ID, b"", b"hello"], 2),
    ("REQ with an empty body", "delimiter", [ID, b"", b""], 2),
    ("REQ with several body frames", "delimiter", [ID, b"", b"a", b"b"], 2),
    ("REQ with an empty frame in the body", "delimiter", [ID, b"", b"a", b"", b"b"], 2),
    ("REQ_CORRELATE", "delimiter", [ID, b"\0\0\0\1", b"", b"hello"], 3),
    ("REQ behind two proxies", "delimiter", [ID, b"hop 2", b"hop 1", b"", b"hello"], 4),
    ("DEALER with a delimiter", "delimiter", [ID, b"", b"hello"], 2),
    ("DEALER without one", "bare", [ID, b"hello"], 1),
    ("DEALER whose first field is empty", "bare", [ID, b"", b"hello"], 1),
    ("DEALER that says nothing", "bare", [ID, b""], 1),
    ("one frame after an envelope of any shape", "last", [ID, b"any", b"thing", b"hello"], 3),
    ("REQ, by its last frame", "last", [ID, b"", b"hello"], 2),
    ("DEALER, by its last frame", "last", [ID, b"hello"], 1),
    ("an empty last frame", "last", [ID, b"", b""], 2),
    ("routing id only", "fixed:1", [ID, b"", b"hello"], 1),
    ("a sequence number", "fixed:2", [ID, b"7", b"hello", b"world"], 2),
    ("Jupyter", "marker:<IDS|MSG>", [ID, MARK, b"signature", b"{}"], 2),
    ("Jupyter with topics", "marker:<IDS|MSG>", [ID, b"a", b"", MARK, b"signature"], 4),
    ("the marker again in the body", "marker:<IDS|MSG>", [ID, MARK, MARK, b"x"], 2),
    ("a client that is named as the marker", "marker:<IDS|MSG>", [MARK, MARK, b"x"], 2),
]

REFUSED = [
    ("DEALER without a delimiter", "delimiter", [ID, b"hello"], "no_delimiter"),
    ("only ids", "delimiter", [ID, b"hop 2", b"hop 1"], "no_delimiter"),
    ("a probe", "delimiter", [ID, b""], "no_body"),
    ("a probe behind a proxy", "delimiter", [ID, b"hop", b""], "no_body"),
    ("no second frame", "fixed:2", [ID, b"hello"], "too_few_frames"),
    ("nothing after the envelope", "fixed:3", [ID, b"a", b"b"], "too_few_frames"),
    ("no marker", "marker:<IDS|MSG>", [ID, b"", b"hello"], "no_marker"),
    ("nothing after the marker", "marker:<IDS|MSG>", [ID, b"a", MARK], "no_body"),
    ("the marker only as the routing id", "marker:<IDS|MSG>", [MARK, b"hello"], "no_marker"),
    ("the routing id alone", "bare", [ID], "no_body"),
    ("the routing id alone, where a delimiter is due", "delimiter", [ID], "no_delimiter"),
]

NO_POLICIES = [
    "",
    "Delimiter",
    " bare",
    "bare:",
    "bare:1",
    "last:1",
    "delimiter:x",
    "fixed",
    "fixed:",
    "fixed:0",
    "fixed:-1",
    "fixed:256",
    "fixed:1.5",
    "fixed:²",
    f"fixed:{'9' * 5000}",
    "marker",
    "marker:",
    "marker:\ud800",
    "guess",
    None,
    2,
    b"delimiter",
    ["bare"],
]


@pytest.mark.parametrize(
    ("_", "policy", "frames", "count"), FITS, ids=lambda value: str(value)[:40]
)
def test_fits(_: str, policy: str, frames: list[bytes], count: int) -> None:
    assert policy_of(policy).length(frames) == count
    assert policy_of(policy).split(frames) == (frames[:count], frames[count:])


@pytest.mark.parametrize(
    ("_", "policy", "frames", "reason"), REFUSED, ids=lambda value: str(value)[:40]
)
def test_is_refused(_: str, policy: str, frames: list[bytes], reason: str) -> None:
    with pytest.raises(MalformedMessage) as caught:
        policy_of(policy).length(frames)
    assert (caught.value.reason, caught.value.sizes) == (reason, tuple(map(len, frames)))


routing_ids = st.binary(min_size=1, max_size=255) | st.just(MARK)
frames = st.sampled_from([b"", MARK, "é".encode()]) | st.binary(max_size=6)
messages = st.builds(
    lambda first, others: [first, *others], routing_ids, st.lists(frames, min_size=1, max_size=9)
)
policies = st.sampled_from(POLICIES).map(policy_of)


def split_or_refused(
    message: list[bytes], policy: EnvelopePolicy
) -> tuple[list[bytes], list[bytes]]:
    """Envelope and body; of a message that is refused, as it must be, none and all of it."""
    try:
        return policy.split(message)
    except MalformedMessage as refusal:
        return ([], message) if refusal.sizes == tuple(map(len, message)) else ([], [])


@given(messages, policies)
def test_joining_what_was_split_gives_the_message(
    message: list[bytes], policy: EnvelopePolicy
) -> None:
    before = list(message)
    envelope, body = split_or_refused(message, policy)
    assert envelope + body == before == message
    assert body


@given(messages)
def test_the_delimiter_is_the_first_empty_frame(message: list[bytes]) -> None:
    envelope, _ = split_or_refused(message, policy_of("delimiter"))
    empty = [index for index, frame in enumerate(message) if index and not frame]
    assert len(envelope) == (empty[0] + 1 if empty and empty[0] < len(message) - 1 else 0)


@given(messages)
def test_bare_and_last_fit_every_message(message: list[bytes]) -> None:
    assert policy_of("bare").split(message) == (message[:1], message[1:])
    assert policy_of("last").split(message) == (message[:-1], message[-1:])


@given(routing_ids, st.binary(max_size=6), policies)
def test_a_message_that_the_server_begins_fits_its_own_policy(
    routing_id: bytes, body: bytes, policy: EnvelopePolicy
) -> None:
    address = policy.address(routing_id)
    assert policy.split([*address, body]) == (address, [body])
    assert address[0] == routing_id


def test_an_address_is_the_callers_own() -> None:
    policy = policy_of("delimiter")
    policy.address(ID).append(b"more")
    assert policy.address(ID) == [ID, b""]


@given(messages, policies)
def test_a_plain_message_has_one_frame_of_its_senders_choosing(
    message: list[bytes], policy: EnvelopePolicy
) -> None:
    """The owner does not bound such messages: libzmq has bounded that one frame."""
    envelope, _ = split_or_refused(message, policy)
    if envelope and len(message) <= policy.plain:
        assert len([frame for frame in message[1:] if frame not in policy.closing]) <= 1


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_is_found_again_by_its_name(name: str) -> None:
    policy = policy_of(name)
    assert policy.name == name
    assert policy == policy_of(policy.name) == policy_of(policy)
    assert hash(policy) == hash(policy_of(name))
    assert repr(policy) == f"EnvelopePolicy({name!r})"


def test_policies_of_different_names_differ() -> None:
    assert len({policy_of(name) for name in POLICIES}) == len(POLICIES)
    assert policy_of("bare") != "bare"


def test_markers_that_look_the_same_differ() -> None:
    assert marker(b"\xff") != marker(rb"\xff")


def test_a_policy_of_ones_own_is_taken_as_it_is() -> None:
    own = EnvelopePolicy(
        "to the last empty frame",
        lambda frames: len(frames) - frames[::-1].index(b""),
        "no_delimiter",
    )
    assert policy_of(own) is own
    assert own.split([ID, b"", b"", b"x"]) == ([ID, b"", b""], [b"x"])
    with pytest.raises(MalformedMessage, match="no_delimiter"):
        own.length([ID, b"x"])


@pytest.mark.parametrize("value", NO_POLICIES, ids=lambda value: ascii(value)[:20])
def test_names_no_policy(value: Any) -> None:
    with pytest.raises(ValueError, match=r"fixed|marker|names no envelope policy|surrogates|limit"):
        policy_of(value)


@pytest.mark.parametrize("count", [0, -1, 256])
def test_no_fixed_envelope_of_so_many_frames(count: int) -> None:
    with pytest.raises(ValueError, match=f"fixed:{count}: the count must be from 1 to 255"):
        fixed(count)


def test_no_empty_marker() -> None:
    with pytest.raises(ValueError, match="must not be empty"):
        marker(b"")
