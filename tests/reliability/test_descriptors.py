"""More clients than descriptors."""

from __future__ import annotations

import resource
import time

from processes_apart import until

from green_router.testing import PATIENCE

LIMIT, CLIENTS = 256, 400


def served(clients):
    """Which of them are answered now."""
    for client in clients:
        client.send_multipart([b"", b"echo"])
    end = time.monotonic() + 1 * PATIENCE
    found = [
        client for client in clients if client.poll(max(0, int(1000 * (end - time.monotonic()))))
    ]
    for client in found:
        client.recv_multipart()
    return found


def test_400_clients_and_256_descriptors(scene, measured):
    """It lives and serves those who are connected, and the others when some leave."""
    server = scene.server(limits={resource.RLIMIT_NOFILE: (LIMIT, LIMIT)})
    assert not [line for line in server.ask("lines") if "descriptors" in line]
    clients = [scene.client(server.endpoint) for _ in range(CLIENTS)]
    first = served(clients)
    assert 200 < len(first) < LIMIT
    assert server.descriptors() == LIMIT
    begun, before = time.monotonic(), server.processor_seconds()
    assert len(served(first)) == len(first)
    for client in first[:200]:
        client.close()
    rest = [client for client in clients if client not in first]
    for client in rest:
        # What it asked for when it was not connected.
        assert client.recv_multipart() == [b"", b"echo"]
    seconds = time.monotonic() - begun
    used = (server.processor_seconds() - before) / seconds
    assert len(served(first[200:])) == len(first) - 200
    measured(
        f"{CLIENTS} clients, {LIMIT} descriptors",
        f"{len(first)} served, the other {len(rest)} when 200 had left",
    )
    measured("processor time at the limit", f"{used:.0%} of one")
    client = scene.client(server.endpoint)
    client.send_multipart([b"", b"echo"])
    assert client.recv_multipart() == [b"", b"echo"]
    stats = server.stop()
    assert stats["fates"]["answered"] == stats["received"] - stats["fates"]["peer_gone"]


def test_the_soft_limit_is_raised(scene, measured):
    """Then 400 clients are no trouble."""
    server = scene.server(limits={resource.RLIMIT_NOFILE: (LIMIT, 1000)})
    clients = [scene.client(server.endpoint) for _ in range(CLIENTS)]
    until(lambda: server.descriptors() > CLIENTS)
    assert len(served(clients)) == CLIENTS
    [line] = [line for line in server.ask("lines") if "descriptors" in line]
    measured("log line", line)
