"""A handler that blocks the hub."""
from __future__ import annotations

import time

from processes_apart import sized, until

from green_router.testing import PATIENCE


def test_a_handler_that_blocks_the_hub_is_named(scene, measured):
    """Handler, request, age and stack are logged while it blocks, and how long it took when it is over."""
    server = scene.server(block_warning=0.1)
    client = scene.client(server.endpoint)
    for _ in range(sized(2, 20)):
        client.send_multipart([b"", b"spin 0.5"])
        client.recv_multipart()
        time.sleep(0.15)
    lines = until(lambda: (lambda found: found if "turns again" in found[-1] else None)(server.ask("lines")))
    warnings = [line for line in lines if "blocks the loop" in line]
    assert len(warnings) == sized(2, 20)
    assert "handle blocks the loop for more than 0.1 s" in warnings[0]
    assert "in spin" in warnings[0]
    assert b"spin 0.5"[:8].hex() in warnings[0]
    ages = [float(line.split(" s old")[0].split()[-1]) for line in warnings]
    measured("a handler that blocks for 0.5 s, block_warning 0.1", f"named {max(ages):.2f} s after its request came, at the latest")
    assert max(ages) < 0.35 * PATIENCE


def test_the_lag_of_the_loop_is_a_gauge(scene, measured):
    server = scene.server(block_warning=0.05)
    client = scene.client(server.endpoint)
    client.send_multipart([b"", b"keep"])
    until(lambda: server.stats()["in_flight"])
    quiet = server.stats()["loop_lag"]
    assert quiet < 0.05 * PATIENCE
    client.send_multipart([b"", b"spin 0.4"])
    client.recv_multipart()
    most = max(float(until(lambda: server.stats())["loop_lag"]) for _ in range(3))
    measured("loop_lag at rest, and after a handler that blocked for 0.4 s", f"{1000 * quiet:.1f} ms, {1000 * most:.0f} ms")
    server.ask("release")
