"""The descriptor of the ROUTER is edge-triggered: no edge may be lost."""
from __future__ import annotations

import json

import pytest
from processes_apart import sized

from green_router.testing import PATIENCE


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_interleaved_requests_and_replies_of_mixed_size(scene, measured, tmp_path, transport):
    """None is late by a second, and none waits for another one's edge."""
    requests = sized(30_000, 1_000_000)
    # The marks are low, so that replies are parked and peers are waited for all the time.
    server = scene.server("tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/s", send_high_water_mark=3)
    clients = [scene.program("interleaved.py", server.endpoint, 7, requests // 2, seed) for seed in range(2)]
    results = [json.loads(client.line()) for client in clients]
    assert [result["received"] for result in results] == [requests // 2] * 2
    longest = max(result["longest"] for result in results)
    measured(f"{requests:,} interleaved requests over {transport}",
             f"{sum(result['late'] for result in results)} late by a second, the slowest took {1000 * longest:.0f} ms")
    assert longest < 1 * PATIENCE
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
