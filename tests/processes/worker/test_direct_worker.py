"""A worker that serves clients itself: when it begins to, and what it tells of what it has
counted."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import zmq
from command_line import CommandLine
from gevent.event import Event
from gevent.queue import Queue

from green_router.processes.worker.direct_worker import parts
from green_router.testing import DEADLINE, RunningServer

from ..conftest import ANY_PORT, GATED, Service, states


def test_a_reply_that_leaves_later_is_told_too() -> None:
    """What was in hand when it last told wakes nothing; what becomes of it does."""
    told: Queue[Any] = Queue()
    release = Event()

    def handle(request: Any) -> bytes:
        release.wait()
        return b"done"

    server = RunningServer(handle, parts(lambda error: None, lambda message: told.put(message[1])))
    server.bind(ANY_PORT)
    server.start()
    try:
        client = server.client(zmq.DEALER)
        client.send_multipart([b"", b"x"])
        with gevent.Timeout(DEADLINE):
            while told.get()["received"] == 0:  # it has just begun
                pass
            release.set()
            while told.get()["fates"]["answered"] == 0:
                pass
    finally:
        server.close_clients()
        server.stop(0)


def test_nobody_is_served_before_all_have_booted(
    command_line: CommandLine, service: Callable[..., Service]
) -> None:
    gate = command_line.write("wait for slot=2", "")
    server = service(GATED, "--workers", "2", "--dispatch", "direct", serves=False)
    (endpoint,) = server.wait_for(states("ready", "booting"))["endpoints"]
    dealers = [server.client(zmq.DEALER, endpoint) for _ in range(10)]
    for dealer in dealers:
        dealer.send_multipart([b"", b"x"])
    assert server.stats()["sum"]["received"] == 0
    gate.unlink()
    for dealer in dealers:
        dealer.recv_multipart()
    # All workers are asked before their ledgers are added up.
    assert server.stats()["sum"]["fates"]["answered"] == len(dealers)
