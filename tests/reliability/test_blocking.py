"""A handler that blocks the hub."""

from __future__ import annotations

import time

import pytest
from processes_apart import sized, until

from green_router.testing import PATIENCE


def test_a_handler_that_blocks_the_hub_is_named(scene, measured):
    """Handler, request, age and stack are logged while it blocks, and how long it took when it is
    over."""
    server = scene.server(block_warning=0.1)
    client = scene.client(server.endpoint)
    for _ in range(sized(2, 20)):
        client.send_multipart([b"", b"spin 0.5"])
        client.recv_multipart()
        time.sleep(0.15)
    lines = until(
        lambda: (lambda found: found if "turns again" in found[-1] else None)(server.ask("lines"))
    )
    warnings = [line for line in lines if "blocks the loop" in line]
    assert len(warnings) == sized(2, 20)
    assert "handle blocks the loop for more than 0.1 s" in warnings[0]
    assert "in spin" in warnings[0]
    assert b"spin 0.5"[:8].hex() in warnings[0]
    ages = [float(line.split(" s old")[0].split()[-1]) for line in warnings]
    measured(
        "a handler that blocks for 0.5 s, block_warning 0.1",
        f"named {max(ages):.2f} s after its request came, at the latest",
    )
    assert max(ages) < 0.35 * PATIENCE


def test_the_lag_of_the_loop_is_a_gauge(scene, measured):
    """Asked while it blocks, the server tells as soon as it can, and then of the block."""
    server = scene.server(block_warning=0.2)
    client = scene.client(server.endpoint)
    client.send_multipart([b"", b"keep"])
    until(lambda: server.stats()["in_flight"])
    quiet = until(
        lambda: (lambda lag: lag if 0 < lag < 0.05 * PATIENCE else None)(server.stats()["loop_lag"])
    )
    client.send_multipart([b"", b"spin 0.6"])
    time.sleep(0.3)
    most = server.stats()["loop_lag"]
    client.recv_multipart()
    measured(
        "loop_lag at rest, and after a handler that blocked for 0.6 s",
        f"{1000 * quiet:.1f} ms, {1000 * most:.0f} ms",
    )
    assert 0.3 < most < 0.6 + 0.1 * PATIENCE
    until(lambda: server.stats()["loop_lag"] < 0.05 * PATIENCE)
    server.ask("release")


@pytest.mark.parametrize("pause", [0.0, 0.3])
def test_a_handler_that_blocks_after_it_has_replied_is_named(scene, measured, pause):
    """Nothing is owed any more, so nothing but the block itself can say so."""
    server = scene.server(block_warning=0.1)
    client = scene.client(server.endpoint)
    client.send_multipart([b"", b"blurt %.1f 0.5" % pause])
    assert client.recv_multipart() == [b"", b"early"]
    lines = until(
        lambda: (lambda found: found if "turns again" in found[-1] else None)(server.ask("lines"))
    )
    [warning] = [line for line in lines if "blocks the loop" in line]
    assert "in spin" in warning
    measured(f"a handler that blocks for 0.5 s, {pause:g} s after its reply", "named")
    until(lambda: server.idle_wake_ups() == 0)
