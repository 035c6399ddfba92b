"""What is counted for frames is what they cost: not less, and not much more."""

from __future__ import annotations

import tracemalloc
from typing import Any

import pytest

from green_router.messages.request import Request
from green_router.messages.size import MESSAGE_BYTES, body_bytes, bytes_of

COUNT = 2000

SHAPES = {
    "a small body": lambda number: [b"%5d" % (number % 10), b"", b"%10d" % number],
    "a large body": lambda number: [b"%5d" % (number % 10), b"", bytes(10_000 + number % 2)],
    "a large envelope": lambda number: [
        b"%5d" % (number % 10),
        bytes(10_000 + number % 2),
        b"",
        b"%10d" % number,
    ],
    "many small frames": lambda number: [
        b"%5d" % (number % 10),
        b"",
        *(b"%4d" % place for place in range(100)),
    ],
    "many empty frames": lambda number: [b"%5d" % (number % 10), b"", *[b""] * 200],
}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_request_that_is_kept(shape: str) -> None:
    handle: Any = None
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    kept = [
        Request(SHAPES[shape](number), 2, 1000.0 + number, None, handle) for number in range(COUNT)
    ]
    costs = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    counted = sum(MESSAGE_BYTES + bytes_of(request.frames) for request in kept)
    assert costs <= counted
    if shape != "many empty frames":  # they are all the same object, and that is luck
        assert 0.5 * counted < costs


def test_a_body_is_one_frame_several_or_none() -> None:
    assert body_bytes(b"12345") == bytes_of([b"12345"])
    assert body_bytes([b"12345", b""]) == bytes_of([b"12345", b""])
    assert body_bytes(None) == 0
