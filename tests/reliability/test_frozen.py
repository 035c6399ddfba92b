"""Clients that are frozen: SIGSTOP, with a full pipe."""
from __future__ import annotations

import signal

from processes_apart import median, sized, until

from green_router.testing import PATIENCE

MB = 1_000_000


def test_one_frozen_client_among_100(scene, measured):
    """The p99 of the healthy is at most twice what it is without it; what it asked for leaves when it goes on, in order."""
    requests, rounds, seconds = 300, sized(3, 9), sized(1, 5)
    server = scene.server(send_high_water_mark=2, max_parked_bytes_per_peer=64 * MB, max_in_flight=50_000)
    load = scene.load(server, 100, 1000)
    load.ask(0.5)
    server.ask("tick")
    without, beside = [], []
    for _ in range(rounds):
        without.append(load.ask(seconds)["p99"])
        # Its replies are made while the others are measured: they find its pipe full, and are parked.
        frozen = scene.asker(server, 1, requests, f"size 100000 {seconds / requests}")
        frozen.signal(signal.SIGSTOP)
        beside.append(load.ask(seconds)["p99"])
        assert until(lambda: server.stats()["parked"]) > requests / 2
        frozen.signal(signal.SIGCONT)
        assert frozen.ask(requests) == {"received": requests, "in order": True}
        frozen.kill()
    gap = server.ask("gap")["longest"]
    ratio = median(beside) / median(without)
    measured("p99 of 100 healthy clients beside a frozen one", f"{1000 * median(beside):.2f} ms, {ratio:.2f} x without it")
    measured("longest standstill of the loop", f"{1000 * gap:.0f} ms")
    assert median(beside) <= 2 * median(without) + 0.02 * PATIENCE
    assert gap < 0.5 * PATIENCE
    assert not server.stats()["parked"]
    final = server.stop()
    assert final["fates"]["peer_stalled"] == 0
    assert final["fates"]["answered"] == final["received"]


def all_judged(stats):
    return stats if stats["in_flight"] + stats["waiting"] == stats["parked"] else None


def test_20_frozen_clients_that_asked_for_much(scene, measured):
    """Resident memory stays under the configured bytes plus 20 %, and all that is beyond is counted as peer_stalled."""
    clients, requests, size = 20, sized(200, 1000), MB
    configured = 256 * MB
    server = scene.server(send_high_water_mark=1, max_parked_bytes_per_peer=16 * MB, max_parked_bytes=configured)
    healthy = scene.client(server.endpoint)
    healthy.send_multipart([b"", b"size 1000000"])
    healthy.recv_multipart()
    base = server.resident_bytes()
    frozen = scene.asker(server, clients, 1, "size 10")
    frozen.kill()
    server.forget_peak()
    frozen = scene.asker(server, clients, requests, f"size {size}")
    frozen.signal(signal.SIGSTOP)
    stats = until(lambda: all_judged(server.stats()), 120 * PATIENCE)
    grown = server.peak_bytes() - base
    in_libzmq = clients * size
    measured("memory beside 20 frozen clients", f"{grown / MB:.0f} MB more, {configured / MB:.0f} + {in_libzmq / MB:.0f} MB configured")
    assert stats["parked_bytes"] <= configured
    assert stats["fates"]["peer_stalled"] + stats["fates"]["answered"] + stats["parked"] == stats["received"]
    assert stats["fates"]["peer_stalled"] > clients * requests / 2
    assert grown <= 1.2 * (configured + in_libzmq)
    healthy.send_multipart([b"", b"echo"])
    assert healthy.recv_multipart() == [b"", b"echo"]
    frozen.signal(signal.SIGCONT)
    frozen.kill()
    until(lambda: not server.stats()["parked"])
    assert server.stats()["parked_bytes"] == 0
