"""Replies from other OS threads. That only the owner touches the ROUTER is shown by tox's
environment "debug", in which the tests of serving/ run with GREEN_ROUTER_DEBUG=1: each call of the
socket then asserts greenlet and thread."""

from __future__ import annotations

import time

from processes_apart import median, sized

from green_router.testing import PATIENCE

THREADS = 16

LATE_SECONDS = 0.05


def test_replies_from_16_threads_on_an_idle_hub(scene, measured):
    """None is lost; none is later than 50 ms, measured from the call of ``reply`` to the client."""
    each = sized(200, 10_000)
    server, noise = scene.server(), scene.noise()
    client = scene.client(server.endpoint)
    late = []
    noise()
    for number in range(THREADS):  # one for each thread at any time
        client.send_multipart([b"", b"thread %d" % number])
    for number in range(THREADS * each):
        late.append(time.time() - float(client.recv_multipart()[-1]))
        if number < THREADS * (each - 1):
            client.send_multipart([b"", b"thread %d" % (number % THREADS)])
    late.sort()
    worst = noise()
    measured(
        f"{THREADS} threads x {each:,} replies",
        f"0 lost; on the way: median {1000 * median(late):.2f} ms, p99.9 "
        f"{1000 * late[int(len(late) * 0.999)]:.1f} ms, the slowest {1000 * late[-1]:.1f} ms, "
        f"where a bystander was {1000 * worst:.1f} ms late",
    )
    assert late[-1] < LATE_SECONDS * PATIENCE + worst
    assert server.stop()["fates"]["answered"] == THREADS * each
