"""A line: whole batches, in order, whatever the kernel takes at once, and an end that comes after
all that was said."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from hypothesis import given, settings
from hypothesis import strategies as st

from green_router.processes.channel.stream import HEAD, READ_BYTES, Channel, encoded
from green_router.testing import PATIENCE, eventually

WITHIN = 10 * PATIENCE


class End:
    """One end of a line, and what came."""

    def __init__(self, fd: int) -> None:
        self.came: list[Any] = []
        self.over = Event()
        self._wanted = 0
        self._there = Event()
        self.channel = Channel(fd, self._received, self.over.set)

    def _received(self, batch: list[Any]) -> None:
        self.came += batch
        if len(self.came) >= self._wanted:
            self._there.set()

    def wait(self, count: int) -> list[Any]:
        self._wanted = count
        if len(self.came) < count:
            self._there.clear()
            assert self._there.wait(WITHIN), f"{len(self.came)} of {count} came"
        return self.came


@pytest.fixture
def ends() -> Iterator[tuple[End, End]]:
    left, right = socket.socketpair()
    pair = End(left.detach()), End(right.detach())
    yield pair
    for end in pair:
        end.channel.close()


MESSAGES = [
    (1, 2, 3.5, [b"id", b"", b"body"], "127.0.0.1", None),
    ("end", 7, None),
    (2, 0, [b"a", b"b"]),
    (3, 4, bytes(3 * READ_BYTES)),
    ("clear", 1, b""),
]


def test_messages_arrive_whole_and_in_order(ends: tuple[End, End]) -> None:
    left, right = ends
    for message in MESSAGES:
        left.channel.send([message])
    right.channel.send(MESSAGES)
    assert right.wait(len(MESSAGES)) == MESSAGES
    assert left.wait(len(MESSAGES)) == MESSAGES


def test_what_the_kernel_does_not_take_is_kept(ends: tuple[End, End]) -> None:
    left, right = ends
    sent = [(number, 0, bytes([number]) * 100_000) for number in range(200)]
    for message in sent:
        left.channel.send([message])
    assert left.channel.waiting_bytes > 0
    assert right.wait(200) == sent
    assert left.channel.waiting_bytes == 0


@given(
    st.lists(
        st.lists(
            st.tuples(st.integers(0, 2**60), st.lists(st.binary(max_size=50))),
            min_size=1,
            max_size=5,
        ),
        max_size=8,
    ),
    st.integers(1, 40),
)
@settings(deadline=None, max_examples=30)
def test_any_cut_gives_the_same_batches(batches: list[list[Any]], size: int) -> None:
    ours, theirs = socket.socketpair()
    end = End(theirs.detach())
    stream = b"".join(map(encoded, batches))
    for start in range(0, len(stream), size):
        ours.sendall(stream[start : start + size])
        if start // size % 50 == 0:
            # The reader is in this thread; what it does not take would fill the kernel's buffer.
            gevent.sleep(0.0001)
    ours.close()
    assert end.over.wait(WITHIN)
    assert end.came == [message for batch in batches for message in batch]


def test_the_end_comes_after_everything_that_was_said(ends: tuple[End, End]) -> None:
    left, right = ends
    left.channel.send(MESSAGES)
    left.channel.close()
    assert left.channel.closed
    assert right.over.wait(WITHIN)
    assert right.came == MESSAGES
    assert right.channel.closed
    right.channel.send(MESSAGES)  # dropped, and no error
    assert not left.over.is_set()


def test_a_batch_that_is_cut_off_is_not_heard() -> None:
    ours, theirs = socket.socketpair()
    end = End(theirs.detach())
    ours.sendall(encoded([MESSAGES[0]]) + encoded([MESSAGES[1]])[:-1])
    ours.close()
    assert end.over.wait(WITHIN)
    assert end.came == [MESSAGES[0]]


@pytest.mark.parametrize(
    "garbage", [b"Traceback (most recent call last):", HEAD.pack(3) + b"\xff\xff\xff", HEAD.pack(0)]
)
def test_what_is_no_batch_is_an_end(garbage: bytes, caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        end = End(theirs.detach())
        ours.sendall(encoded([MESSAGES[0]]) + garbage + encoded([MESSAGES[1]]))
        assert end.over.wait(WITHIN)
        assert end.came == [MESSAGES[0]]
        assert end.channel.closed
        eventually(lambda: "corrupt data on the worker channel" in caplog.text)


def test_what_is_no_plain_data_is_refused(ends: tuple[End, End]) -> None:
    with pytest.raises(ValueError, match="unmarshallable"):
        ends[0].channel.send([(object(),)])
    ends[0].channel.send([MESSAGES[0]])
    assert ends[1].wait(1) == [MESSAGES[0]]


def test_its_descriptor_is_not_inherited() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        end = End(os.dup(ours.fileno()))
        ours.close()
        assert not os.get_inheritable(end.channel._fd)
        end.channel.close()


def test_the_head_is_a_length() -> None:
    data = encoded([MESSAGES[0]])
    assert struct.unpack("<Q", data[: HEAD.size])[0] == len(data) - HEAD.size


def test_an_error_while_a_batch_is_dealt_with_is_an_end(caplog: pytest.LogCaptureFixture) -> None:
    """Half of it may have been done: nothing behind it can be relied on, and somebody is told."""
    left, right = socket.socketpair()
    over: list[int] = []

    def received(batch: list[Any]) -> None:
        raise MemoryError("planted")

    line, other = Channel(left.detach(), received, lambda: over.append(1)), End(right.detach())
    other.channel.send([("first",)])
    other.channel.send([("second",)])
    eventually(lambda: over == [1])
    assert line.closed
    eventually(lambda: "handling what came on the worker channel failed" in caplog.text)
    assert other.over.wait(WITHIN)
    other.channel.close()
