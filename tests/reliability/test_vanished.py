"""Clients that are there no more: killed, reset, cut off, started again."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from contextlib import suppress
from uuid import uuid4

import pytest
from processes_apart import median, sized, until
from raw_peer import dealer, message, reset

from green_router.sockets.tuning import PIECE_BYTES
from green_router.testing import PATIENCE

MB = 1_000_000
SETTINGS = {"max_in_flight_per_peer": 1000}  # so that there is a table of peers which may leak


def at_rest(server):
    stats = server.stats()
    return (
        stats
        if not stats["in_flight"] + stats["waiting"] + stats["peers"] + stats["deferred"]
        else None
    )


def killed(scene, server, count):
    before = server.stats()["received"]
    asker = scene.asker(server, count, 1, "keep")
    until(lambda: server.stats()["received"] >= before + count)
    asker.kill()


def reset_by_peer(scene, server, count):
    peers = [dealer(server.address, b"reset %d" % number) for number in range(count)]
    before = server.stats()["received"]
    for peer in peers:
        peer.sendall(message(b"", b"keep"))
    until(lambda: server.stats()["received"] >= before + count)
    for peer in peers:
        reset(peer)


@pytest.mark.parametrize("leave", [killed, reset_by_peer], ids=lambda leave: leave.__name__)
def test_clients_that_vanish_leave_nothing_behind(scene, measured, leave):
    """Their replies are peer_gone; descriptors, memory, tables and processor time go back to where
    they were."""
    server = scene.server(**SETTINGS)
    other = scene.client(server.endpoint)
    other.send_multipart([b"", b"echo"])
    other.recv_multipart()
    batch, batches, descriptors = sized(50, 100), sized(2, 10), server.descriptors()

    def come_and_go():
        leave(scene, server, batch)
        until(lambda: server.descriptors() <= descriptors)
        # Libzmq's I/O thread has closed them; now it tells the ROUTER, before it goes on to this.
        for _ in range(2):
            other.send_multipart([b"", b"echo"])
            other.recv_multipart()
        server.ask("answer")  # when all of them have gone
        server.ask("release")
        until(lambda: at_rest(server))

    for _ in range(3):  # so that memory has met it
        come_and_go()
    memory, gone = server.resident_bytes(), server.fate("peer_gone")
    for _ in range(batches):
        come_and_go()
    stats = server.stats()
    assert stats["fates"]["peer_gone"] - gone == batch * batches
    grown = server.resident_bytes() - memory
    assert grown < 3 * MB
    wake_ups, before = server.idle_wake_ups(), server.processor_seconds()
    time.sleep(0.5)
    assert wake_ups == 0
    assert server.processor_seconds() == before
    measured(
        f"after {batch * batches} clients that were {leave.__name__.replace('_', ' ')}",
        f"{server.descriptors() - descriptors} descriptors, {grown / MB:.1f} MB and "
        f"{sum(stats['where'].values())} entries more; {wake_ups} wake-ups in an idle second",
    )


RESTART_SECONDS = 0.2


@pytest.mark.parametrize("policy", ["handover", "reject"])
def test_a_client_process_that_is_killed_and_back_at_once(scene, measured, policy):
    """kill -9, and a new process with the same routing id: it is served within 0.2 s, each time."""
    server, noise = scene.server(duplicate_routing_id=policy), scene.noise()
    times = []
    old = scene.program("reborn.py", server.endpoint, "me")
    assert old.line() == "ready"
    old.ask("go")
    for _ in range(sized(5, 50)):
        new = scene.program("reborn.py", server.endpoint, "me")
        assert new.line() == "ready"
        noise()
        old.kill()
        times.append(new.ask("go") - noise())
        old = new
    measured(
        f"first reply after kill -9 and a restart with the same routing id, {policy}",
        f"median {1000 * median(times):.1f} ms, the slowest {1000 * max(times):.1f} ms",
    )
    assert max(times) < RESTART_SECONDS
    stats = server.stop()
    assert stats["fates"]["answered"] + stats["fates"]["peer_gone"] == stats["received"]


def test_handover_while_the_old_connection_is_open(scene, measured):
    """Half-open, to the server: the new one is served at once, and gets what the old one asked for,
    if replies follow the id."""
    server, noise = scene.server(replies_follow_routing_id=True), scene.noise()
    old = dealer(server.address, b"me")
    old.sendall(message(b"", b"keep"))
    until(lambda: server.stats()["in_flight"] == 1)
    times = []
    for _ in range(sized(10, 100)):
        noise()
        begun = time.monotonic()
        new = scene.client(server.endpoint, routing_id=b"me")
        new.send_multipart([b"", b"echo"])
        assert new.recv_multipart() == [b"", b"echo"]
        times.append(time.monotonic() - begun - noise())
    measured(
        "first reply after a restart with the same routing id, old connection open",
        f"median {1000 * median(times):.1f} ms, the slowest {1000 * max(times):.1f} ms",
    )
    assert max(times) < RESTART_SECONDS
    server.ask("answer")
    assert new.recv_multipart() == [b"", b"kept"]
    reset(old)


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
    """Two ends of a wire, in a network namespace each: (run in the server's, run in the client's,
    address, cut)."""
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
        ip(
            "link",
            "add",
            ours,
            "netns",
            ours,
            "type",
            "veth",
            "peer",
            "name",
            theirs,
            "netns",
            theirs,
        )
        for name, address in ((ours, "10.93.0.1/24"), (theirs, "10.93.0.2/24")):
            ip("-n", name, "address", "add", address, "dev", name)
            ip("-n", name, "link", "set", name, "up")
        yield (
            ["ip", "netns", "exec", ours],
            ["ip", "netns", "exec", theirs],
            "10.93.0.1",
            lambda: ip("-n", theirs, "link", "set", theirs, "down"),
        )
    except subprocess.CalledProcessError as error:
        pytest.skip(f"needs veth pairs in network namespaces: {error.stderr}".strip())
    finally:
        for name in (ours, theirs):
            subprocess.run(["ip", "netns", "delete", name], check=False, capture_output=True)


@pytest.mark.parametrize("owed", ["nothing", "a reply on its way", "a reply that is made later"])
def test_half_open_connections_end(scene, measured, wire, owed):
    """Packets are dropped both ways, and nobody says goodbye; TCP keepalive notices, also where
    data is on its way."""
    here, there, address, cut = wire
    idle = sized(1, 4)
    server = scene.server(
        f"tcp://{address}:0",
        before=here,
        tcp_keepalive_idle=float(idle),
        park_timeout=float(idle),
        **SETTINGS,
    )
    count, before = sized(10, 1000), server.descriptors()
    for _ in range(3):  # so that memory has met it
        scene.asker(server, count, 1, "echo", before=there).kill()
        until(lambda: at_rest(server) and server.descriptors() <= before, 60 * PATIENCE)
    memory = server.resident_bytes()
    gone = server.fate("peer_gone")
    words = {
        "nothing": "echo",
        "a reply on its way": "sleep 1.0",
        "a reply that is made later": "keep",
    }[owed]
    clients = scene.asker(server, count, 1, words, before=there)
    if owed == "nothing":
        clients.say(1)
        for _ in range(count):
            assert clients.next() == {"received": 1, "in order": True}
    assert server.descriptors() == before + count
    cut()
    begun = time.monotonic()
    if owed == "a reply on its way":
        until(lambda: server.stats()["in_flight"] == 0)  # libzmq and the kernel have them
    until(lambda: server.descriptors() == before, 60 * PATIENCE)
    seconds = time.monotonic() - begun
    if owed == "a reply that is made later":
        server.ask("answer")
        server.ask("release")
        stats = until(lambda: at_rest(server))
        assert stats["fates"]["peer_gone"] - gone == count
    stats = until(lambda: at_rest(server))
    grown = server.resident_bytes() - memory
    wake_ups, used = server.idle_wake_ups(), server.processor_seconds()
    time.sleep(0.5)
    measured(
        f"{count} half-open connections, owed {owed}, noticed with tcp_keepalive_idle = {idle}",
        f"after {seconds:.1f} s; {grown / MB:.1f} MB and {sum(stats['where'].values())} entries "
        f"more, {wake_ups} wake-ups in an idle second",
    )
    assert seconds < (3 * idle + 4) * PATIENCE
    assert grown < 3 * MB + 2 * PIECE_BYTES  # what the heap keeps at its end
    assert wake_ups == 0
    assert server.processor_seconds() == used


def test_keepalive_is_on_by_default(serve):
    """Read from the sockets that the server has, not from its settings."""
    server = serve(lambda request: request.data)
    port = int(server.endpoints[0].rpartition(":")[2])
    assert server.ask(b"x") == b"x"
    client = server.client()
    client.send(b"y")
    assert client.recv() == b"y"
    found = [[peer.getsockopt(*option) for option in KEEPALIVE] for peer in connections(port)]
    assert found
    assert all(values == [1, 60, 10, 3, 90_000] for values in found), found


KEEPALIVE = [
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
]


def connections(port):
    """The connections of this process at that port of its own, each through another descriptor."""
    for descriptor in os.listdir("/proc/self/fd"):
        with (
            suppress(OSError),
            socket.fromfd(int(descriptor), socket.AF_INET, socket.SOCK_STREAM) as beside,
        ):
            if (
                beside.getsockopt(socket.SOL_SOCKET, socket.SO_DOMAIN) == socket.AF_INET
                and beside.getpeername()
                and beside.getsockname()[1] == port
            ):
                yield beside
