"""Law 4: malformed and hostile input, while healthy clients go on being served."""

from __future__ import annotations

import random
import time

import pytest
from attacks import (
    a_frame_above_the_limit,
    a_frame_that_claims_to_be_huge,
    a_message_of_a_million_frames,
    a_message_without_an_end,
    a_port_scan,
    a_port_scan_with_rst,
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

LINES_PER_SECOND = 22
"""What is logged of malformed messages, and of handlers that fail: ten lines a second each, and a
rest."""


class Healthy:
    """Clients that ask for as long as the attack lasts; ``rest`` checks that each was answered,
    what the attack cost the server, and that the log was not flooded by it."""

    def __init__(self, scene, server, name, measured):
        self.server, self.name, self.measured = server, name, measured
        self.load = scene.load(server, 5, 200)
        self.load.ask(0.3)
        self.memory, self.descriptors = server.resident_bytes(), server.descriptors()
        self.lines = len(server.ask("lines"))
        self.begun = time.monotonic()

    def go(self):
        """They begin; call ``rest`` when what happens beside them is over."""
        self.load.say("on")

    def rest(self, megabytes=6.0):
        """Let them end, and judge; returns how many lines were logged."""
        result = self.load.ask("end")
        assert result["received"] == result["sent"] > 0
        assert result["disconnected"] == 0
        seconds = time.monotonic() - self.begun
        until(lambda: self.server.descriptors() <= self.descriptors)
        grown = self.server.resident_bytes() - self.memory
        lines = len(self.server.ask("lines")) - self.lines
        self.measured(
            self.name,
            f"{result['received']} healthy requests answered beside it, the slowest in "
            f"{1000 * result['max']:.0f} ms; {grown / MB:.1f} MB more; {lines} log lines in "
            f"{seconds:.0f} s",
        )
        assert grown < megabytes * MB
        assert result["max"] < 2 * PATIENCE
        assert lines <= LINES_PER_SECOND * (seconds + 1)
        return lines


def test_random_messages(scene, measured):
    """All are counted; those that are no requests as malformed."""
    messages = sized(20_000, 1_000_000)
    server = scene.server(max_frames=30, explain=True)
    # So that memory has met every kind of message.
    scene.program("babble.py", server.endpoint, 10, 5000, 1).ends()
    until(lambda: server.stats()["received"] >= 5000)
    healthy = Healthy(scene, server, f"{messages:,} random messages", measured)
    before = server.stats()["received"]
    healthy.go()
    babble = scene.program("babble.py", server.endpoint, 10, messages, 2)
    assert babble.line() == str(messages)
    healthy.rest(40.0)  # idle greenlets are kept (serving/handlers.py: MAX_IDLE), of some 7 kB each
    stats = until(
        lambda: (lambda s: s if not s["in_flight"] + s["waiting"] else None)(server.stats())
    )
    assert stats["received"] >= before + messages
    assert stats["fates"]["malformed"] > messages / 5
    assert not stats["fates"]["abandoned"]


ATTACKS = {
    "strangers": {
        http: (10, 200),
        tls_hello: (3, 100),
        random_bytes: (20, 500),
        a_port_scan: (50, 1000),
        a_port_scan_with_rst: (50, 1000),
    },
    "silence": {
        half_a_greeting: (20, 500),
        half_a_message: (20, 500),
        nothing_at_all: (1000, 1000),
    },
    "broken ZMTP": {
        greeting_then_random_bytes: (20, 500),
        ready_then_random_bytes: (20, 500),
        someone_in_a_hurry: (20, 500),
    },
    "too much": {
        a_frame_above_the_limit: (5, 100),
        a_frame_that_claims_to_be_huge: (5, 100),
        ten_thousand_frames: (3, 100),
    },
}
"""How often each, at quick and at full size."""


@pytest.mark.parametrize("kind", ATTACKS)
def test_attacks(scene, measured, kind):
    """Healthy clients are served, memory and descriptors come back, the log is not flooded."""
    server = scene.server(max_message_bytes=100_000, handshake_timeout=1.0)
    attacks = [attack for attack, counts in ATTACKS[kind].items() for _ in range(sized(*counts))]
    random.Random(0).shuffle(attacks)
    descriptors = server.descriptors()
    # So that memory has met it: pieces of all sizes find their places, and then cost nothing more.
    for _ in range(3):
        storm(server, attacks, descriptors)
        until(lambda: server.descriptors() <= descriptors)
    healthy = Healthy(scene, server, f"{len(attacks):,} connections, {kind}", measured)
    healthy.go()
    storm(server, attacks, healthy.descriptors)
    healthy.rest()


def storm(server, attacks, descriptors):
    """All of them, until the server has noticed."""
    malformed = server.fate("malformed") + attacks.count(ten_thousand_frames)
    peers = [attack(server.address) for attack in attacks]
    if ten_thousand_frames in attacks:
        until(lambda: server.fate("malformed") == malformed, 60 * PATIENCE)
    if nothing_at_all in attacks:  # handshake_timeout ends all but those who have shaken hands
        until(lambda: server.descriptors() < descriptors + attacks.count(half_a_message) + 10)
    for peer in filter(None, peers):
        peer.close()


def test_a_message_of_a_million_frames(scene, measured):
    """libzmq hands over whole messages, one after the other, so the requests of others wait until
    this one has been thrown away. The loop turns meanwhile, and replies leave."""
    server, noise = scene.server(), scene.noise()
    load = scene.load(server, 4, 200)
    load.say("on")
    noise()
    server.ask("tick")
    begun = time.monotonic()
    peers = [a_message_of_a_million_frames(server.address) for _ in range(sized(1, 5))]
    until(lambda: server.fate("malformed") == len(peers), 60 * PATIENCE)  # by their first frames
    client = scene.client(server.endpoint)
    client.send_multipart([b"", b"echo"])
    assert client.recv_multipart() == [b"", b"echo"]
    took = time.monotonic() - begun
    gap = server.ask("gap")["longest"] - noise()
    result = load.ask("end")
    measured(
        f"{len(peers)} messages of 1,000,000 frames",
        f"gone after {took:.1f} s; the longest that a request waited "
        f"{result['max']:.1f} s; the longest standstill of the loop, beyond the machine's own, "
        f"{1000 * max(0, gap):.0f} ms",
    )
    for peer in peers:
        peer.close()
    assert result["received"] == result["sent"] > 0
    assert result["max"] < took + PATIENCE
    assert gap < 0.5 * PATIENCE


def test_a_message_without_an_end(scene, measured):
    """libzmq keeps what it has of a message until the last frame has come, and has no bound for
    that. Nobody else is kept waiting by it, and once its peer has gone the memory serves again:
    ever new peers need no more."""
    server = scene.server(max_message_bytes=100_000)
    healthy = Healthy(scene, server, "messages without an end", measured)
    healthy.go()
    held = []
    for _ in range(4):
        peers = [a_message_without_an_end(server.address) for _ in range(sized(2, 10))]
        held.append(server.resident_bytes() - healthy.memory)
        for peer in peers:
            peer.close()
        until(lambda: server.descriptors() <= healthy.descriptors)
    measured(
        f"memory while {len(peers)} peers send 50 MB each, frame after frame, and while as many "
        "others do it again",
        ", ".join(f"{each / MB:.0f}" for each in held) + " MB more",
    )
    # How soon the second ones meet what the first ones have left is a matter of chance.
    assert held[-1] < 1.2 * held[1]
    healthy.rest(1.2 * max(held) / MB)


def test_a_port_scan_every_second(scene, measured):
    """A minute of connections that are closed at once, some with RST."""
    server = scene.server()
    healthy = Healthy(scene, server, "a port scan every second", measured)
    seconds = sized(2, 60)
    healthy.go()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        for scan in (a_port_scan, a_port_scan_with_rst) * 5:
            scan(server.address)
        time.sleep(1)
    assert healthy.rest() == 0
