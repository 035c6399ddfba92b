"""Messages without a sound envelope are counted, said and dropped."""

from __future__ import annotations

import logging

import pytest
import zmq
import zmq.green

from green_router.testing import settled

MALFORMED = [
    ("delimiter", [b"one"], "no_delimiter"),
    ("delimiter", [b"one", b"two"], "no_delimiter"),
    ("delimiter", [b""], "no_body"),
    ("delimiter", [b"one", b""], "no_body"),
    ("fixed:3", [b"one"], "too_few_frames"),
    ("fixed:3", [b"one", b"2"], "too_few_frames"),
    ("marker:X", [b"one", b"", b"two"], "no_marker"),
    ("marker:X", [b"one", b"X"], "no_body"),
    ("delimiter", [b"", *[b"f"] * 9], "too_many_frames"),
    ("bare", [b"x" * 600, b"x" * 600], "too_large"),
]


def upper(request):
    return [frame.upper() for frame in request.body]


@pytest.mark.parametrize(
    ("envelope", "frames", "reason"), MALFORMED, ids=lambda v: v if isinstance(v, str) else None
)
def test_malformed_messages_are_counted_logged_and_dropped(serve, caplog, envelope, frames, reason):
    caplog.set_level(logging.WARNING)
    server = serve(upper, envelope=envelope, max_frames=10, max_message_bytes=1000)
    client = server.client(zmq.DEALER)
    for _ in range(20):
        client.send_multipart(frames)
    good = {
        "delimiter": [b"", b"x"],
        "bare": [b"x"],
        "fixed:3": [b"1", b"2", b"x"],
        "marker:X": [b"X", b"x"],
    }[envelope]
    client.send_multipart(good)
    assert client.recv_multipart() == [*good[:-1], b"X"]
    assert settled(server, "malformed") == 20
    lines = [r.getMessage() for r in caplog.records]
    assert 1 <= len(lines) <= 2
    assert reason in lines[0]
    assert "xxxx" not in lines[0]
    if reason == "no_delimiter":
        assert 'envelope="bare" (--envelope bare) takes' in lines[0]
