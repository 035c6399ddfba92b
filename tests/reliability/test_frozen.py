"""Clients that are frozen: SIGSTOP, with a full pipe."""

from __future__ import annotations

import signal
import time

import pytest
from processes_apart import median, sized, until

from green_router.testing import PATIENCE

MB = 1_000_000

NOISE_SECONDS = 0.001
"""What a p99 of a millisecond differs by from window to window on a machine that does nothing
else."""


def judged(server):
    """When every message has its fate or is parked."""

    def stats():
        found = server.stats()
        return found if found["in_flight"] + found["waiting"] == found["parked"] else None

    return until(stats, 120 * PATIENCE)


def test_one_frozen_client_among_100(scene, measured):
    """The p99 of the healthy is at most twice what it is without it; what it asked for leaves when
    it goes on, in order."""
    requests, rounds, seconds = 300, sized(5, 11), sized(1, 5)
    server, noise = (
        scene.server(
            send_high_water_mark=2, max_parked_bytes_per_peer=64 * MB, max_in_flight=50_000
        ),
        scene.noise(),
    )
    load = scene.load(server, 100, 1000)
    load.ask(0.5)
    without, beside, gaps, gaps_beside = [], [], [], []
    for _ in range(rounds):
        noise()
        server.ask("tick")
        without.append(load.ask(seconds)["p99"])
        gaps.append(server.ask("gap")["longest"] - noise())
        # Its replies are made while the others are measured: they find its pipe full, and are
        # parked.
        frozen = scene.asker(server, 1, requests, f"size 100000 {seconds / requests}")
        frozen.signal(signal.SIGSTOP)
        noise()
        server.ask("tick")
        beside.append(load.ask(seconds)["p99"])
        gaps_beside.append(server.ask("gap")["longest"] - noise())
        assert until(lambda: server.stats()["parked"]) > requests / 2
        frozen.signal(signal.SIGCONT)
        assert frozen.ask(requests) == {"received": requests, "in order": True}
        frozen.kill()
    # The quietest window of each: whatever a frozen client did to the others it would do in every
    # window.
    measured(
        "p99 of 100 healthy clients beside a frozen one, and without it",
        f"{1000 * min(beside):.2f} ms and {1000 * min(without):.2f} ms at the least, "
        f"{1000 * median(beside):.2f} ms and {1000 * median(without):.2f} ms in the middle",
    )
    measured(
        "longest standstill of the loop, beyond the machine's own",
        f"{1000 * max(0, min(gaps_beside)):.0f} ms, {1000 * max(0, min(gaps)):.0f} ms without it",
    )
    assert min(beside) <= 2 * min(without) + NOISE_SECONDS * PATIENCE
    assert min(gaps_beside) < 2 * max(min(gaps), 0.01)
    assert not server.stats()["parked"]
    final = server.stop()
    assert final["fates"]["peer_stalled"] == 0
    assert final["fates"]["answered"] == final["received"]


SIZE, EACH = 100_000, 300

BOUNDS = {
    "its own bytes": ({"max_parked_bytes_per_peer": 5 * MB}, 1),
    "the bytes of all": ({"max_parked_bytes_per_peer": 5 * MB, "max_parked_bytes": 8 * MB}, 3),
    "its age": ({"park_timeout": 0.5}, 1),
}
"""Settings, and how many clients are frozen."""


@pytest.mark.parametrize("bound", BOUNDS)
def test_what_is_beyond_a_bound_is_peer_stalled_and_the_rest_arrives_in_order(
    scene, measured, bound
):
    """Each bound alone, where the others are far away."""
    settings, count = BOUNDS[bound]
    server = scene.server(
        send_high_water_mark=2,
        **{"max_parked_bytes_per_peer": 900 * MB, "max_parked_bytes": 900 * MB} | settings,
    )
    frozen = scene.asker(server, count, EACH, f"size {SIZE} 0.001")
    frozen.signal(signal.SIGSTOP)
    stats = judged(server)
    if bound == "its age":
        stats = until(
            lambda: (lambda found: found if not found["parked"] else None)(server.stats())
        )
    else:
        held = settings.get("max_parked_bytes", settings["max_parked_bytes_per_peer"])
        # The kernel's buffers grow, and have taken some since.
        assert held / 2 < stats["parked_bytes"] <= held
    stalled = stats["fates"]["peer_stalled"]
    assert stalled > 0
    assert (
        stalled + stats["fates"]["answered"] + stats["parked"] == stats["received"] == count * EACH
    )
    healthy = scene.client(server.endpoint)
    healthy.send_multipart([b"", b"echo"])
    assert healthy.recv_multipart() == [b"", b"echo"]
    frozen.signal(signal.SIGCONT)
    frozen.say(EACH)
    received = [frozen.next() for _ in range(count)]
    assert all(client["in order"] for client in received)
    assert sum(client["received"] for client in received) == count * EACH - stalled
    final = server.stop()
    assert final["fates"] == {
        **dict.fromkeys(final["fates"], 0),
        "answered": count * EACH + 1 - stalled,
        "peer_stalled": stalled,
    }
    measured(
        f"{count} frozen, {count * EACH} replies of {SIZE:,} bytes, bounded by {bound}",
        f"{stalled} peer_stalled, the other {count * EACH - stalled} arrive in order",
    )


def test_one_that_was_late_catches_up_beside_many_that_do_not_read(scene, measured):
    """Its pauses are not theirs: what was parked for it leaves as fast as it reads."""
    many, rate = sized(60, 150), 400
    server = scene.server(send_high_water_mark=20, max_parked_bytes=900 * MB)
    load = scene.load(server, 1, rate, "sleep 0.01")
    scene.asker(server, many, 100, "size 50000")
    until(lambda: server.stats()["parked"] > many)
    before = server.stats()["received"]
    load.say("on")
    until(lambda: server.stats()["received"] > before + rate / 2)
    load.signal(signal.SIGSTOP)
    time.sleep(0.5)
    load.signal(signal.SIGCONT)
    until(lambda: server.stats()["received"] > before + 4 * rate)
    result = load.ask("end")
    measured(
        f"one that was stopped for 0.5 s, beside {many} that do not read",
        f"{result['received']} of {result['sent']} requests answered, half of them within "
        f"{1000 * result['p50']:.0f} ms, all within {1000 * result['max']:.0f} ms",
    )
    assert result["received"] == result["sent"]
    assert result["p50"] < 0.2 * PATIENCE


@pytest.mark.parametrize("size", [1000, 100_000])
def test_with_the_default_settings(scene, measured, size):
    """However much a frozen client asks for, and whichever bound it meets first, the others are
    served."""
    server = scene.server()
    load = scene.load(server, 10, 200)
    without = max(load.ask(1)["p99"] for _ in range(3))
    frozen = scene.program("asker.py", server.endpoint, 1, 25_000, "-", 0, "size", size)
    assert frozen.line() == "asked"
    frozen.signal(signal.SIGSTOP)
    begun = load.ask(2)  # while its replies are made
    until(lambda: server.stats()["parked"])
    windows = [load.ask(1) for _ in range(sized(5, 11))]
    beside = min(window["p99"] for window in windows)
    assert all(window["received"] == window["sent"] > 100 for window in [begun, *windows])
    measured(
        f"default settings, a frozen client that asked for 25,000 x {size:,} bytes: p99 of the "
        "healthy",
        f"{1000 * beside:.2f} ms, {1000 * without:.2f} ms without it",
    )
    assert beside <= 2 * without + NOISE_SECONDS * PATIENCE
    stats = server.stats()
    assert stats["parked_bytes"] <= 16 * 1024 * 1024
    # So many requests at once are too many for a moment, but what is parked is out of flight.
    until(lambda: len([line for line in server.ask("lines") if "overload" in line]) % 2 == 0)
    assert load.ask(1)["received"] > 100


def test_20_frozen_clients_that_asked_for_much(scene, measured):
    """Resident memory stays under the configured bytes plus 20 %, and all that is beyond is counted
    as peer_stalled."""
    clients, requests, size = 20, sized(200, 1000), MB
    configured = 256 * MB
    server = scene.server(
        send_high_water_mark=1, max_parked_bytes_per_peer=16 * MB, max_parked_bytes=configured
    )
    healthy = scene.client(server.endpoint)
    healthy.send_multipart([b"", b"size 1000000"])
    healthy.recv_multipart()
    base = server.resident_bytes()
    scene.asker(server, clients, 1, "size 10").kill()
    until(lambda: server.stats()["in_flight"] == 0)
    server.forget_peak()
    frozen = scene.asker(server, clients, requests, f"size {size}")
    frozen.signal(signal.SIGSTOP)
    stats = judged(server)
    grown = server.peak_bytes() - base
    in_libzmq = clients * size
    measured(
        f"memory beside 20 frozen clients that asked for {requests:,} x 1 MB each",
        f"{grown / MB:.0f} MB more, {configured / MB:.0f} + {in_libzmq / MB:.0f} MB configured",
    )
    assert stats["parked_bytes"] <= configured
    # peer_gone: of the first ones, which were killed perhaps before they had their replies
    assert (
        sum(stats["fates"][name] for name in ("peer_stalled", "answered", "peer_gone"))
        + stats["parked"]
        == stats["received"]
    )
    assert stats["fates"]["peer_stalled"] > clients * requests / 2
    assert grown <= 1.2 * (configured + in_libzmq)
    healthy.send_multipart([b"", b"echo"])
    assert healthy.recv_multipart() == [b"", b"echo"]
    frozen.signal(signal.SIGCONT)
    frozen.kill()
    until(lambda: not server.stats()["parked"])
    assert server.stats()["parked_bytes"] == 0


GIVES_BACK = {"MALLOC_MMAP_THRESHOLD_": str(128 * 1024)}
"""Makes the allocator of the C library return each megabyte at once: what is resident then is in
use."""


def test_large_requests_with_small_replies(scene, measured):
    """What a parked reply costs is what is counted: the request that it answers is let go of."""
    clients, requests = 5, sized(150, 300)
    configured, size, pad = 64 * MB, 50_000, MB
    server = scene.server(
        send_high_water_mark=1,
        receive_high_water_mark=1,
        max_parked_bytes=configured,
        environment=GIVES_BACK,
    )
    asked = scene.asker(server, clients, 1, f"size {size}", pad=pad)
    asked.kill()
    base = server.resident_bytes()
    server.forget_peak()
    frozen = scene.asker(server, clients, requests, f"size {size} 0.002", pad=pad)
    frozen.signal(signal.SIGSTOP)
    stats = judged(server)
    assert stats["parked"] > clients * 50
    assert stats["parked_bytes"] <= configured
    grown = server.resident_bytes() - base
    in_libzmq = clients * (size + 2 * pad)
    measured(
        f"{stats['parked']} parked replies of {size:,} bytes to requests of {pad:,} bytes",
        f"{grown / MB:.0f} MB more, {configured / MB:.0f} + {in_libzmq / MB:.0f} MB configured",
    )
    assert grown <= 1.2 * (configured + in_libzmq)
    frozen.signal(signal.SIGCONT)
    frozen.say(requests)
    for _ in range(clients):
        assert frozen.next() == {"received": requests, "in order": True}
