"""The clients of the bench: what they count, and what they leave to others.

Rules of this file
  1. The server is one that a test has written down: a client that answers as it was told. What real
     servers do to the load is in test_command.py.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from green_router.commands.bench.load import HEAD, CheckedClient, Tally

FAR = 10**18
"""Nanoseconds: later than any test."""

NUMBER = 7


class Told:
    """A client that keeps what it is sent, and returns what a test has put there."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.come: list[bytes] = []

    def fileno(self) -> int:
        return -1

    def send(self, requests: Sequence[bytes]) -> None:
        self.sent += requests

    def replies(self, enough: int) -> list[bytes]:
        come, self.come = self.come[:enough], self.come[enough:]
        return come


def client(in_flight: int = 3) -> tuple[Told, CheckedClient]:
    told = Told()
    checked = CheckedClient(told, NUMBER, b"padding", in_flight)
    checked.send(in_flight, time.monotonic_ns())
    return told, checked


def test_requests_are_numbered() -> None:
    told, checked = client()
    checked.send(1, 0)
    assert told.sent == [HEAD.pack(NUMBER, serial) + b"padding" for serial in range(4)]
    assert list(checked.waiting) == [request[: HEAD.size] for request in told.sent]


@pytest.mark.parametrize(
    ("begin", "end", "in_time", "latencies"),
    [
        (0, FAR, 3, 3),
        (FAR, FAR, 0, 0),  # before it counts
        (0, 0, 0, 3),  # sent while it counted, but late
    ],
)
def test_what_counts_is_what_comes_while_it_counts(
    begin: int, end: int, in_time: int, latencies: int
) -> None:
    told, checked = client()
    told.come = list(told.sent)
    tally = Tally(begin, end)
    assert checked.take(tally)[0] == 3
    assert (tally.replies, tally.in_time, sum(tally.latencies.values())) == (3, in_time, latencies)
    assert not checked.waiting


def test_the_latency_is_from_sending_to_taking() -> None:
    told, checked = client(1)
    told.come = list(told.sent)
    [sent] = checked.waiting.values()
    tally = Tally(0, FAR)
    _, now = checked.take(tally)
    assert tally.latencies == {(now - sent) // 1000: 1}


@pytest.mark.parametrize(
    ("replies", "right", "wrong", "unasked"),
    [
        ([], 0, 0, 0),
        ([HEAD.pack(NUMBER, 1) + b"padding"], 1, 0, 0),
        ([HEAD.pack(NUMBER, 1) + b"padding"] * 2, 1, 0, 1),  # twice
        ([HEAD.pack(NUMBER, 3) + b"padding"], 0, 1, 0),  # never asked
        ([HEAD.pack(NUMBER + 1, 1) + b"padding"], 0, 1, 0),  # somebody else's
        ([HEAD.pack(NUMBER, 1) + b"Padding"], 0, 1, 0),
        ([HEAD.pack(NUMBER, 1) + b"paddin"], 0, 1, 0),
        ([HEAD.pack(NUMBER, 1) + b"paddingpadding"], 0, 1, 0),
        ([b"", b"x"], 0, 2, 0),
    ],
)
def test_each_reply_is_checked(replies: list[bytes], right: int, wrong: int, unasked: int) -> None:
    told, checked = client()
    told.come = replies
    tally = Tally(0, FAR)
    checked.take(tally)
    assert (tally.replies, tally.in_time, tally.wrong, tally.unasked) == (
        right,
        right,
        wrong,
        unasked,
    )


@pytest.mark.parametrize(
    ("since", "until", "waited"),
    [(0, 10, 0), (0, 15, 5), (12, 17, 5), (15, 30, 5), (0, 30, 10), (20, 30, 0)],
)
def test_only_waits_while_it_counts_are_noted(since: int, until: int, waited: int) -> None:
    tally = Tally(10, 20)
    tally.note_wait(since, until)
    assert tally.waited == waited


def test_long_latencies_keep_three_digits() -> None:
    tally = Tally(0, 0)
    for microseconds in (0, 999, 1004, 1009, 123_456, 123_999, 9_876_543):
        tally.latencies[microseconds] += 1
    assert tally.rounded() == [(0, 1), (999, 1), (1000, 2), (123_000, 2), (9_870_000, 1)]
