"""Malformed and hostile input, while healthy clients go on being served."""
from __future__ import annotations

import json
import random
import time

import pytest
from attacks import (
    a_frame_above_the_limit,
    a_frame_that_claims_to_be_huge,
    a_port_scan,
    greeting_then_random_bytes,
    half_a_greeting,
    half_a_message,
    http,
    nothing_at_all,
    random_bytes,
    ready_then_random_bytes,
    someone_in_a_hurry,
    ten_thousand_frames,
    tls_hello,
)
from processes_apart import sized, until

from green_router.testing import PATIENCE

MB = 1_000_000


class Healthy:
    """Clients that ask all the while; ``rest`` checks that each was answered, and what that cost the server."""

    def __init__(self, scene, server, name, measured):
        self.server, self.name, self.measured = server, name, measured
        self.load = scene.load(server, 5, 200)
        self.load.ask(0.3)
        self.memory, self.descriptors = server.resident_bytes(), server.descriptors()
        self.lines = len(server.ask("lines"))
        self.begun = time.monotonic()

    def go(self, seconds):
        """They begin; call ``rest`` when what happens beside them has happened."""
        self.load.say(seconds)

    def rest(self, megabytes=6.0):
        """Wait for them to end, and judge; returns how many lines were logged, in how many seconds."""
        result = json.loads(self.load.line())
        assert result["received"] == result["sent"] > 0
        assert result["disconnected"] == 0
        seconds = time.monotonic() - self.begun
        until(lambda: self.server.descriptors() <= self.descriptors)
        grown = self.server.resident_bytes() - self.memory
        lines = len(self.server.ask("lines")) - self.lines
        self.measured(self.name, f"{result['received']} healthy requests answered beside it, the slowest in "
                                 f"{1000 * result['max']:.0f} ms; {grown / MB:.1f} MB more; {lines} log lines in {seconds:.0f} s")
        assert grown < megabytes * MB
        assert result["max"] < 2 * PATIENCE
        return lines, seconds


def test_random_messages(scene, measured):
    """All are counted; those that are no requests as malformed."""
    messages = sized(20_000, 1_000_000)
    server = scene.server(max_frames=30, explain=True)
    scene.program("babble.py", server.endpoint, 10, 5000, 1).ends()     # so that memory has met every kind of message
    until(lambda: server.stats()["received"] >= 5000)
    healthy = Healthy(scene, server, f"{messages:,} random messages", measured)
    before = server.stats()["received"]
    healthy.go(2 if messages < 10**6 else 60)
    babble = scene.program("babble.py", server.endpoint, 10, messages, 2)
    assert babble.line() == str(messages)
    healthy.rest(20.0)  # how much is logged is no matter here: handlers fail, and each failure is told
    stats = until(lambda: (lambda s: s if not s["in_flight"] + s["waiting"] else None)(server.stats()))
    assert stats["received"] >= before + messages
    assert stats["fates"]["malformed"] > messages / 5
    assert not stats["fates"]["abandoned"]


ATTACKS = {
    "strangers": {http: (10, 200), tls_hello: (3, 100), random_bytes: (20, 500), a_port_scan: (50, 1000)},
    "silence": {half_a_greeting: (20, 500), half_a_message: (20, 500), nothing_at_all: (1000, 1000)},
    "broken ZMTP": {greeting_then_random_bytes: (20, 500), ready_then_random_bytes: (20, 500), someone_in_a_hurry: (20, 500)},
    "too much": {a_frame_above_the_limit: (5, 100), a_frame_that_claims_to_be_huge: (5, 100), ten_thousand_frames: (3, 100)},
}
"""How often each, at quick and at full size."""


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks(scene, measured, kind):
    """Healthy clients are served, memory and descriptors come back, the log is not flooded."""
    server = scene.server(max_message_bytes=100_000, handshake_timeout=1.0)
    peers = [attack(server.address) for attack in ATTACKS[kind] for _ in range(2)]
    attacks = [attack for attack, counts in ATTACKS[kind].items() for _ in range(sized(*counts))]
    random.Random(0).shuffle(attacks)
    healthy = Healthy(scene, server, f"{len(attacks):,} connections, {kind}", measured)
    healthy.go(sized(1, 10))
    peers += [attack(server.address) for attack in attacks]
    if kind == "silence":
        silent = [peer for peer, attack in zip(peers[6:], attacks, strict=True) if attack is not half_a_message]
        until(lambda: server.descriptors() < healthy.descriptors + len(attacks) - len(silent) + 10)     # handshake_timeout
    for peer in filter(None, peers):
        peer.close()
    lines, seconds = healthy.rest()
    assert lines <= 11 * (seconds + 1)


def test_a_port_scan_every_second(scene, measured):
    """A minute of connections that are closed at once, some with RST."""
    server = scene.server()
    healthy = Healthy(scene, server, "a port scan every second", measured)
    seconds = sized(2, 60)
    healthy.go(seconds)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for _ in range(5):
            a_port_scan(server.address)
        time.sleep(1)
    assert healthy.rest()[0] == 0
