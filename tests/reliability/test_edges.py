"""The descriptor of the ROUTER is edge-triggered: no edge may be lost."""

from __future__ import annotations

import json

import pytest
from processes_apart import sized

from green_router.testing import PATIENCE


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
@pytest.mark.parametrize("programs", [1, 2])
def test_interleaved_requests_and_replies_of_mixed_size(
    scene, measured, tmp_path, transport, programs
):
    """None is late by a second, and no wake-up is missed: with one program all clients stop
    together, so that nobody's next message heals it; with two there is always somebody who does
    not."""
    requests = sized(15_000, 500_000)
    # The marks are low, so that replies are parked and peers are waited for all the time.
    server = scene.server(
        "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/s", send_high_water_mark=3
    )
    clients = [
        scene.program("interleaved.py", server.endpoint, 7, requests // programs, seed)
        for seed in range(programs)
    ]
    results = [json.loads(client.line()) for client in clients]
    assert [result["received"] for result in results] == [requests // programs] * programs
    late, missed, stops = (
        sum(result[name] for result in results) for name in ("late", "missed", "stops")
    )
    longest = max(result["longest"] for result in results)
    measured(
        f"{requests:,} interleaved requests over {transport} from {programs} x 7 clients",
        f"{late} late by a second, {missed} wake-ups missed in {stops:,} stops, the slowest took "
        f"{1000 * longest:.0f} ms",
    )
    assert late == missed == 0
    assert stops > requests / 1000
    stats = server.stats()
    assert stats["fates"]["answered"] == stats["received"] == requests
    assert server.idle_wake_ups() == 0


def test_one_at_a_time(scene, measured):
    """Each reply has nothing but its own edge to travel with."""
    requests = sized(2_000, 100_000)
    server = scene.server()
    client = scene.client(server.endpoint, rcvtimeo=int(1000 * PATIENCE))
    for number in range(requests):
        client.send_multipart([b"", b"sleep 0" if number % 3 else b"echo"])
        client.recv_multipart()
    measured("requests one at a time", f"{requests:,} answered, none after a second")
