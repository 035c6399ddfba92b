"""Refusals and replies that cannot be sent: parked or lost, and counted once."""

from __future__ import annotations

from typing import Any

import pytest
import zmq
from gevent.event import Event

from green_router.testing import eventually, settled

BUSY, COUNT = bytes(100_000), 60


@pytest.mark.parametrize("most", [100 * len(BUSY), 10 * len(BUSY)], ids=["all", "some"])
def test_refusals_wait_for_a_peer_that_does_not_read(serve: Any, most: int) -> None:
    """As replies do: those for which there is room, in order; the others are peer_stalled."""
    go = Event()
    server = serve(
        lambda request: go.wait() and b"done",
        overload="refuse",
        max_in_flight=1,
        busy_reply=BUSY,
        send_high_water_mark=1,
        max_parked_bytes_per_peer=most,
    )
    first = server.client(zmq.REQ)
    first.send(b"x")
    eventually(lambda: server.stats()["in_flight"] == 1)
    full = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=4096)
    for _ in range(COUNT):
        full.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["received"] == 1 + COUNT)
    stats = server.stats()
    assert stats["parked"] > 0 and (stats["fates"]["peer_stalled"] > 0) == (most < 100 * len(BUSY))
    for _ in range(COUNT - stats["fates"]["peer_stalled"]):
        assert full.recv_multipart() == [b"", BUSY]
    eventually(lambda: settled(server) == COUNT)
    assert settled(server, "refused") == COUNT - settled(server, "peer_stalled")
    go.set()
    assert first.recv() == b"done"
    first.send(b"x")  # nothing is counted any more that is not there
    assert first.recv() == b"done"


def test_refusals_to_a_peer_that_has_gone(serve: Any) -> None:
    server = serve(
        lambda request: b"done", overload="refuse", max_in_flight_per_peer=1, busy_reply=b"busy"
    )
    client = server.client(zmq.DEALER)
    for _ in range(COUNT):
        client.send_multipart([b"", b"x"])
    client.close(1000)
    eventually(lambda: settled(server) == COUNT)
    assert server.ask(b"x") == b"done"
