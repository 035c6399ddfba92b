"""Ten times the load that a server can carry."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import raw_peer
from processes_apart import ANY_PORT, sized, until

from green_router.testing import PATIENCE

MB = 1_000_000
AT_ONCE, SECONDS_EACH = 25, 0.2
CAPACITY = AT_ONCE / SECONDS_EACH
"""125 requests a second, however fast the machine is: what is measured is the server's care, not
its speed."""

# Ten times as many clients as it serves at once, each with a request on its way.
CROWDS = {
    "pause": (10 * AT_ONCE, 0),
    "refuse": (50, 10 * CAPACITY),  # ten times as many requests, whatever becomes of them
}


@pytest.mark.parametrize("overload", CROWDS)
def test_ten_times_the_load_of_handlers_that_wait(scene, measured, overload):
    """Memory is bounded, what is admitted is served at 0.9 of the peak rate at least, and it is
    over at once."""
    seconds = sized(3, 30)
    server = scene.server(
        max_in_flight=AT_ONCE,
        overload=overload,
        busy_reply="busy",
        heartbeat_interval=1.0,
        duplicate_routing_id="reject",
    )
    few = scene.load(server, AT_ONCE, 0, f"sleep {SECONDS_EACH}")
    many = scene.load(server, *CROWDS[overload], f"sleep {SECONDS_EACH}")
    peak = rate_during(server, few, sized(2, 10))["rate"]
    memory = server.resident_bytes()
    server.forget_peak()
    under = rate_during(server, many, seconds)
    grown = server.peak_bytes() - memory
    after = few.ask(1)
    measured(
        f"{overload}: requests served under 10 x the load",
        f"{under['rate']:.0f}/s, {under['rate'] / peak:.2f} of the peak",
    )
    measured(f"{overload}: memory under 10 x the load", f"{grown / MB:.1f} MB more")
    measured(
        f"{overload}: p50 in the second after it, where the handler takes "
        f"{1000 * SECONDS_EACH:.0f} ms",
        f"{1000 * after['p50']:.0f} ms",
    )
    assert under["disconnected"] == after["disconnected"] == 0, (
        "heartbeats found healthy clients dead"
    )
    assert under["received"] + under["refused"] == under["sent"]
    assert under["rate"] >= 0.8 * peak
    assert grown < 60 * MB
    assert after["p50"] < SECONDS_EACH + 0.05 * PATIENCE
    stats = server.stats()
    assert stats["fates"]["refused"] == under["refused"]
    assert (stats["fates"]["refused"] > 0) == (overload == "refuse")
    assert stats["in_flight"] == stats["waiting"] == 0
    said_when_it_begins_and_when_it_ends(server)


COMPUTE, PADDING = 0.005, 5000


@pytest.mark.parametrize("overload", ["pause", "refuse"])
def test_ten_times_the_load_of_handlers_that_compute(scene, measured, overload):
    """The processor is what there is too little of: neither refusing nor waiting takes it from
    those that are served. Rates are those of a server that never waits for a processor because
    other programs have it."""
    seconds, clients, most, mark = sized(3, 30), 5, 50, 10
    server = scene.server(
        max_in_flight=most, overload=overload, busy_reply="busy", receive_high_water_mark=mark
    )
    words = f"compute {COMPUTE} {'x' * PADDING}"
    few = scene.load(server, 4, 0, words)
    many = scene.load(server, clients, 10 / COMPUTE, words)
    peak = rate_during(server, few, sized(2, 10))["alone"]
    calm = few.ask(1)
    memory = server.resident_bytes()
    server.forget_peak()
    under = rate_during(server, many, seconds)
    grown = server.peak_bytes() - memory
    over = time.monotonic()
    until(lambda: few.ask(0.2)["p50"] < 2 * calm["p50"] + 0.002 * PATIENCE)
    recovered = time.monotonic() - over
    asked = (under["sent"] + under["blocked"]) / seconds
    measured(
        f"{overload}: {asked:.0f} requests a second to handlers that compute for "
        f"{1000 * COMPUTE:.0f} ms",
        f"{under['alone']:.0f}/s served, {under['alone'] / peak:.2f} of the peak; "
        f"{grown / MB:.1f} MB more; p50 is what it was before ({1000 * calm['p50']:.1f} ms) "
        f"{recovered:.1f} s after it, 0.2 s of them to measure that",
    )
    assert asked > 5 * peak
    assert under["received"] + under["refused"] == under["sent"]
    assert under["alone"] >= sized(0.8, 0.9) * peak  # 3 s tell it no better
    # what is in flight, and what libzmq has read of each client; twice, for whatever else holds a
    # message
    assert grown < 2 * (most + clients * mark) * (PADDING + 1000) + 10 * MB
    assert (server.fate("refused") > 0) == (overload == "refuse")
    said_when_it_begins_and_when_it_ends(server)


def said_when_it_begins_and_when_it_ends(server):
    """... and not for each message."""

    def said():
        return [line for line in server.ask("lines") if "overload" in line]

    until(lambda: said() and "over after" in said()[-1])
    assert ["over after" in line for line in said()] == [False, True] * (len(said()) // 2)
    assert len(said()) <= 6


def waited(server):
    """For how many seconds, so far, its main thread could have run and no processor was free
    (proc(5), schedstat)."""
    return int(Path(f"/proc/{server.pid}/schedstat").read_text().split()[1]) / 1e9


def rate_during(server, load, seconds):
    """What a load tells of itself, and at what rate requests were answered while all of it was
    there; ``alone``: if the server had never waited for a processor."""
    load.say(seconds)
    begun = time.monotonic()
    time.sleep(seconds / 5)
    first, since, idle = server.stats()["fates"]["answered"], time.monotonic(), waited(server)
    time.sleep(max(0.0, begun + 0.95 * seconds - since))
    last, till, idle = server.stats()["fates"]["answered"], time.monotonic(), waited(server) - idle
    return {
        "rate": (last - first) / (till - since),
        "alone": (last - first) / (till - since - idle),
        **load.next(),
    }


def test_heartbeats_survive_a_client_that_goes_while_it_has_more_to_say_than_is_taken(scene):
    """libzmq 4.3.5 aborts there (libzmq#4364), unless it has no bound for what it reads in
    advance."""
    server = scene.server(
        max_in_flight=1,
        heartbeat_interval=0.2,
        receive_high_water_mark=10,
        duplicate_routing_id="reject",
    )
    asker = scene.program("asker.py", server.endpoint, 1, 5000, "-", 1000, "sleep", 2)
    assert asker.line() == "asked"
    until(lambda: server.stats()["in_flight"])
    time.sleep(0.3 * PATIENCE)  # libzmq has read what it takes in advance
    asker.kill()
    time.sleep(0.5 * PATIENCE)  # a heartbeat
    assert server.process.poll() is None
    stats = until(lambda: (stats := server.stats())["in_flight"] == 0 and stats)
    # No handler begins with what it had to say besides.
    assert stats["fates"]["peer_gone"] == stats["received"] - stats["waiting"]


def test_heartbeats_survive_two_clients_of_one_routing_id(scene):
    """The first one does not read, is followed by the second, says more, and breaks off: where the
    second took its place, libzmq 4.3.5 would take nothing from the first any more, and abort at the
    next heartbeat."""
    server = scene.server(ANY_PORT, heartbeat_interval=0.2, duplicate_routing_id="reject")
    address = ("127.0.0.1", int(server.endpoint.rpartition(":")[2]))
    first = raw_peer.dealer(address, b"one")
    first.sendall(20 * raw_peer.message(b"", b"size 1000000"))
    until(lambda: server.stats()["received"] == 20)
    second = raw_peer.dealer(address, b"one")
    second.sendall(raw_peer.message(b"", b"echo"))
    first.sendall(raw_peer.message(b"", b"echo"))
    until(lambda: server.stats()["received"] >= 21)
    raw_peer.reset(first)
    time.sleep(0.5 * PATIENCE)  # a heartbeat
    second.close()
    assert server.process.poll() is None


def test_heartbeats_keep_healthy_clients_that_have_more_to_say_than_is_taken(scene, measured):
    """A paused server does not read on, and what a client says in between, its heartbeats too,
    stands behind its requests."""
    server = scene.server(
        max_in_flight=1,
        heartbeat_interval=0.2,
        receive_high_water_mark=10,
        duplicate_routing_id="reject",
    )
    load = scene.load(server, 5, 0, "echo")
    client = scene.client(server.endpoint, sndhwm=0, rcvhwm=0)
    count = 3000
    client.send_multipart([b"", b"sleep 2"])
    for number in range(1, count):
        client.send_multipart([b"", b"echo %d" % number])
    result = load.ask(1)
    replies = [client.recv_multipart()[1] for _ in range(count)]
    assert replies == [b"sleep 2", *(b"echo %d" % number for number in range(1, count))]
    assert result["disconnected"] == 0
    assert server.fate("peer_gone") == 0
    measured(
        f"a client with {count:,} requests queued beyond a pause of 2 s, heartbeat_interval = 0.2",
        "connected, all answered",
    )
