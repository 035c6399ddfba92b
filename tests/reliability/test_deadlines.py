"""``handler_timeout`` holds, whatever a handler does."""

from __future__ import annotations

import time

import pytest
from processes_apart import median, sized, until

from green_router.testing import PATIENCE

TIMEOUT = 0.2

HOPS = 4
"""How often a reply's way needs the machine to wake somebody: each may be as late as a bystander is
at that moment."""


@pytest.mark.parametrize(
    "handler", ["sleep 60", "stubborn swallow", "stubborn sleep", "stubborn spin", "keep"]
)
def test_the_reply_leaves_within_10_ms_of_the_deadline(scene, measured, handler):
    """... of ``on_error``, also where the handler catches BaseException and goes on: each of them,
    on a server that has nothing else to do."""
    server, noise = scene.server(handler_timeout=TIMEOUT, explain=True), scene.noise()
    client = scene.client(server.endpoint)
    late, beyond = [], []
    for _ in range(sized(10, 50)):
        noise()
        begun = time.monotonic()
        client.send_multipart([b"", handler.encode()])
        assert client.recv_multipart() == [b"", b"HandlerTimeout"]
        late.append(time.monotonic() - begun - TIMEOUT)
        beyond.append(late[-1] - HOPS * noise())
        # Until the loop turns: the next request must not wait for what this handler still does.
        server.ask("gap")
    measured(
        f"past the deadline, {handler}",
        f"median {1000 * median(late):.1f} ms, the slowest {1000 * max(late):.1f} ms",
    )
    assert min(late) > -0.001
    # All but one: the machine may have stopped one of the three processes, and not the bystander.
    assert sorted(beyond)[-2] < 0.01
    stats = server.stats()
    assert stats["fates"]["timed_out"] == len(late)


def test_a_handler_that_spins_delays_what_passes_meanwhile_until_it_gives_way(scene, measured):
    """Nothing in this process can run while it spins: that is the bound, and the others are
    answered as soon as it ends."""
    server, noise = scene.server(handler_timeout=TIMEOUT, explain=True), scene.noise()
    spinning, waiting = scene.client(server.endpoint), scene.client(server.endpoint)
    late = []
    for _ in range(sized(3, 20)):
        waiting.send_multipart([b"", b"sleep 60"])
        until(lambda: server.stats()["in_flight"] == 1)
        noise()
        begun = time.monotonic()
        spinning.send_multipart([b"", b"spin 0.5"])
        assert waiting.recv_multipart() == [b"", b"HandlerTimeout"]
        late.append(time.monotonic() - begun - 0.5)
        assert spinning.recv_multipart()
        assert late[-1] < 0.01 + HOPS * noise()
    measured(
        "past the end of a handler that spins for 0.5 s, one whose deadline passed meanwhile",
        f"median {1000 * median(late):.1f} ms, the slowest {1000 * max(late):.1f} ms",
    )


def test_a_late_result_is_dropped_and_counted(scene):
    server = scene.server(handler_timeout=TIMEOUT, explain=True)
    client = scene.client(server.endpoint)
    client.send_multipart([b"", b"stubborn sleep"])
    assert client.recv_multipart() == [b"", b"HandlerTimeout"]
    client.send_multipart([b"", b"echo"])
    assert client.recv_multipart() == [b"", b"echo"]
    assert not client.poll(100)
    assert server.stats()["fates"] == {**server.stats()["fates"], "timed_out": 1, "answered": 1}


def test_many_deadlines_at_once(scene, measured):
    """Thousands that pass together are all answered, and the loop goes on."""
    count = sized(1000, 10_000)
    server = scene.server(handler_timeout=TIMEOUT, explain=True, max_in_flight=20_000)
    client = scene.client(server.endpoint, rcvhwm=0, sndhwm=0)
    server.ask("tick")
    begun = time.monotonic()
    for _ in range(count):
        client.send_multipart([b"", b"sleep 60"])
    sent = time.monotonic()
    for _ in range(count):
        assert client.recv_multipart() == [b"", b"HandlerTimeout"]
    ended = time.monotonic()
    measured(
        f"{count:,} deadlines that passed in {sent - begun:.2f} s",
        f"answered until {ended - sent - TIMEOUT:.2f} s after the last",
    )
    measured(
        "the loop meanwhile",
        f"{1000 * server.ask('gap')['longest']:.0f} ms without a turn at the longest",
    )
    assert ended - begun < TIMEOUT + (0.5 + count * 0.0005) * PATIENCE
    assert server.stats()["fates"]["timed_out"] == count


def test_a_deadline_costs_no_timer(scene, measured):
    """The loop has as many timers with ten thousand open requests as with one; a million answered
    ones are as cheap as without a deadline."""
    plain, limited = scene.server(), scene.server(handler_timeout=3600.0)
    waiting = sized(1000, 9000)
    client = scene.client(limited.endpoint, sndhwm=0)
    client.send_multipart([b"", b"keep"])
    until(lambda: limited.stats()["in_flight"] == 1)
    one = limited.stats()["timers"]
    for _ in range(waiting):
        client.send_multipart([b"", b"keep"])
    until(lambda: limited.stats()["in_flight"] == 1 + waiting)
    assert limited.stats()["timers"] == one
    limited.ask("release")
    costs = {plain: [], limited: []}
    rounds, requests = sized(5, 10), sized(4_000, 100_000)
    for server in (plain, limited) * rounds:
        client = scene.client(server.endpoint)
        before = server.processor_seconds()
        for _ in range(50):
            client.send_multipart([b"", b"echo"])
        for _ in range(requests - 50):
            client.recv_multipart()
            client.send_multipart([b"", b"echo"])
        for _ in range(50):
            client.recv_multipart()
        costs[server].append((server.processor_seconds() - before) / requests)
        client.close()
    ratio = median(costs[limited]) / median(costs[plain])
    measured(
        f"processor time of a request with a deadline, {rounds * requests:,} requests",
        f"{1e6 * median(costs[limited]):.1f} us, {ratio:.2f} x without",
    )
    assert ratio < 1.3 + 0.2 * (PATIENCE - 1)
