"""Clients that are there no more: killed, reset, cut off, started again."""
from __future__ import annotations

import subprocess
import time
from uuid import uuid4

import pytest
from processes_apart import FULL, median, sized, until
from raw_peer import dealer, message, reset

from green_router.testing import PATIENCE

MB = 1_000_000
SETTINGS = {"max_in_flight_per_peer": 1000}     # so that there is a table of peers which may leak


def at_rest(server):
    stats = server.stats()
    return stats if not stats["in_flight"] + stats["waiting"] + stats["peers"] + stats["deferred"] else None


def killed(scene, server, count):
    scene.asker(server, count, 1, "sleep 0.5").kill()


def reset_by_peer(scene, server, count):
    peers = [dealer(server.address, b"reset %d" % number) for number in range(count)]
    before = server.stats()["received"]
    for peer in peers:
        peer.sendall(message(b"", b"sleep 0.5"))
    until(lambda: server.stats()["received"] >= before + count)
    for peer in peers:
        reset(peer)


@pytest.mark.parametrize("leave", [killed, reset_by_peer], ids=lambda leave: leave.__name__)
def test_clients_that_vanish_leave_nothing_behind(scene, measured, leave):
    """Their replies are peer_gone; descriptors, memory, tables and processor time go back to where they were."""
    server = scene.server(**SETTINGS)
    batch, batches = sized(50, 100), sized(2, 10)
    leave(scene, server, batch)
    until(lambda: at_rest(server))
    descriptors, memory = until(server.descriptors), server.resident_bytes()
    gone = server.fate("peer_gone")
    for _ in range(batches):
        leave(scene, server, batch)
    stats = until(lambda: at_rest(server))
    assert stats["fates"]["peer_gone"] - gone == batch * batches
    until(lambda: server.descriptors() <= descriptors)
    grown = server.resident_bytes() - memory
    assert grown < 3 * MB
    wake_ups, before = server.idle_wake_ups(), server.processor_seconds()
    time.sleep(0.5)
    assert wake_ups == 0
    assert server.processor_seconds() == before
    measured(f"after {batch * batches} clients that were {leave.__name__.replace('_', ' ')}",
             f"{server.descriptors() - descriptors} descriptors, {grown / MB:.1f} MB and {sum(stats['where'].values())} entries more; "
             f"{wake_ups} wake-ups in an idle second")


def test_a_client_that_restarts_with_its_routing_id(scene, measured):
    """Killed, and back within 0.2 s: with handover it is served at once, whatever the old connection looks like."""
    server = scene.server()
    old = dealer(server.address, b"me")
    old.sendall(message(b"", b"keep"))
    until(lambda: server.stats()["in_flight"] == 1)
    times = []
    for _ in range(sized(10, 100)):
        begun = time.monotonic()
        new = scene.client(server.endpoint, routing_id=b"me")       # the old one is there still: half-open, to the server
        new.send_multipart([b"", b"echo"])
        assert new.recv_multipart() == [b"", b"echo"]
        times.append(time.monotonic() - begun)
    measured("first reply after a restart with the same routing id, old connection open", f"{1000 * median(times):.1f} ms")
    assert median(times) < 0.2 * PATIENCE
    server.ask("answer")                                            # what the old one asked for reaches the one that has its id
    assert new.recv_multipart() == [b"", b"kept"]
    reset(old)


def test_reject_serves_a_restarted_client_once_the_old_connection_has_gone(scene, measured):
    server = scene.server(duplicate_routing_id="reject")
    times = []
    for _ in range(sized(5, 50)):
        old = scene.asker(server, 1, 1, "echo", "me")
        old.kill()
        begun = time.monotonic()
        until(lambda: server.descriptors() and answered(scene, server))
        times.append(time.monotonic() - begun)
    measured("first reply after kill -9 and a restart with the same routing id, reject", f"{1000 * median(times):.1f} ms")
    assert median(times) < 0.2 * PATIENCE


def answered(scene, server):
    """Whether a new client with the id of the old one is served."""
    new = scene.client(server.endpoint, routing_id=b"me0")
    new.send_multipart([b"", b"echo"])
    served = bool(new.poll(100)) and new.recv_multipart() == [b"", b"echo"]
    new.close()
    return served


def test_reject_leaves_the_one_that_came_first_alone(scene):
    server = scene.server(duplicate_routing_id="reject")
    first = scene.client(server.endpoint, routing_id=b"me")
    first.send_multipart([b"", b"echo"])
    first.recv_multipart()
    for _ in range(sized(10, 100)):
        second = scene.client(server.endpoint, routing_id=b"me")
        second.send_multipart([b"", b"echo"])
        second.send_multipart([b"", b"echo"])
        first.send_multipart([b"", b"echo 1"])
        assert first.recv_multipart() == [b"", b"echo 1"]
        second.close()


@pytest.fixture
def wire():
    """Two ends of a wire, in a network namespace each: (run in the server's, run in the client's, address, cut)."""
    number = uuid4().hex[:6]
    ours, theirs = f"gr{number}a", f"gr{number}b"

    def ip(*words):
        return subprocess.run(["ip", *words], check=True, capture_output=True, text=True)

    try:
        ip("netns", "add", ours)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"needs network namespaces: {getattr(error, 'stderr', error)}".strip())
    try:
        ip("netns", "add", theirs)
        ip("link", "add", ours, "netns", ours, "type", "veth", "peer", "name", theirs, "netns", theirs)
        for name, address in ((ours, "10.93.0.1/24"), (theirs, "10.93.0.2/24")):
            ip("-n", name, "address", "add", address, "dev", name)
            ip("-n", name, "link", "set", name, "up")
        yield (["ip", "netns", "exec", ours], ["ip", "netns", "exec", theirs], "10.93.0.1",
               lambda: ip("-n", theirs, "link", "set", theirs, "down"))
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs veth pairs in network namespaces: {error.stderr}".strip())
    finally:
        for name in (ours, theirs):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.parametrize("owed", ["nothing", "a reply"])
def test_half_open_connections_end(scene, measured, wire, owed):
    """Packets are dropped both ways, and nobody says goodbye; TCP keepalive notices, also where data is on its way."""
    here, there, address, cut = wire
    idle = 1.0 if not FULL else 4.0
    server = scene.server(f"tcp://{address}:0", before=here, tcp_keepalive_idle=idle, park_timeout=idle)
    count = sized(10, 100)
    before = server.descriptors()
    clients = scene.asker(server, count, 1, "echo" if owed == "nothing" else "sleep 1.0", before=there)
    if owed == "nothing":
        clients.say(1)
        for _ in range(count):
            assert clients.line() == '{"received": 1, "in order": true}'
    assert server.descriptors() == before + count
    cut()
    begun = time.monotonic()
    if owed == "a reply":
        until(lambda: server.fate("answered") == count)     # libzmq and the kernel have them
    until(lambda: server.descriptors() == before, 60 * PATIENCE)
    seconds = time.monotonic() - begun
    measured(f"half-open connections, owed {owed}, noticed with tcp_keepalive_idle = {idle:g}", f"after {seconds:.1f} s")
    # whoever is answered now is gone, and counted so
    assert seconds < (3 * idle + 4) * PATIENCE
    until(lambda: at_rest(server))
