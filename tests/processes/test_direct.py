"""Workers that serve clients themselves: who connects is let in, whatever happens to the workers.

The sizes fit a machine with two slow cores; GREEN_ROUTER_TEST_FULL=1 gives those of the
documentation.
"""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from command_line import LIMIT_SECONDS
from crowd import Crowd

from .conftest import ANY_PORT, FULL, PATIENCE, PID, Belongings, Service, balanced, ready

ECHO = """
import gevent
def handle_request(request):
    gevent.sleep(0.002)
    return request.data
"""

KILLS, KILL_EVERY, RELOADS = (60, 1.0, 10) if FULL else (4, 0.6, 2)


class Knocker:
    """Connects without a pause, from ``with`` to its end. Attributes: let_in, how often; faults,
    what else happened."""

    def __init__(self, endpoint: str) -> None:
        transport, _, address = endpoint.partition("://")
        host, _, port = address.rpartition(":")
        self._family, self._address = (
            (socket.AF_INET, (host, int(port))) if transport == "tcp" else (socket.AF_UNIX, address)
        )
        self.let_in = 0
        self.faults: list[str] = []
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._knock)

    def __enter__(self) -> Knocker:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _knock(self) -> None:
        while not self._end.is_set():
            with socket.socket(self._family) as knocking:
                knocking.settimeout(LIMIT_SECONDS)
                try:
                    knocking.connect(self._address)
                    self.let_in += 1
                except OSError as error:
                    self.faults.append(repr(error))
            time.sleep(0.001)


@pytest.mark.parametrize("bind", [ANY_PORT, "ipc://{}/s"], ids=["tcp", "ipc"])
def test_nobody_is_refused(service: Callable[..., Service], tmp_path: Path, bind: str) -> None:
    """Under load from clients that ask again, while workers are killed and replaced: every
    connection, every reply."""
    server = service(ECHO, "--workers", "2", "--dispatch", "direct", bind=bind.format(tmp_path))
    for _ in range(2):
        # A worker: what it opens for that is open.
        server.running.err.until("green_router.server: serving on")
    belongings = Belongings(server, 2)
    with (
        Knocker(server.endpoint) as knocker,
        Crowd(server.context, server.endpoint, patience=0.5 * PATIENCE) as crowd,
    ):
        for killed in range(KILLS):
            time.sleep(KILL_EVERY)
            stats = server.wait_for(ready(2))
            os.kill(stats["workers"][killed % 2]["pid"], signal.SIGKILL)
        server.wait_for(ready(2))
        for _ in range(RELOADS):
            before = server.workers()
            server.signal(signal.SIGHUP)
            server.wait_for(ready(2, before))
    assert knocker.faults == []
    assert knocker.let_in > 100
    assert crowd.faults == []
    assert crowd.answered > 100
    assert balanced(server.stats())
    print(f"{knocker.let_in} connections, {crowd.answered} replies, {crowd.retried} asked again")
    belongings.check_end()


def test_the_place_of_a_worker_that_is_not_needed_any_more_is_closed(
    service: Callable[..., Service],
) -> None:
    """TTOU: the kernel must not give it connections, as nobody would take them."""
    server = service(PID, "--workers", "3", "--dispatch", "direct")
    server.signal(signal.SIGTTOU)
    server.wait_for(ready(2))
    clients = [server.client() for _ in range(60)]
    for client in clients:
        client.send(b"")
    assert {int(client.recv()) for client in clients} == set(server.workers())
    assert listening(server.port) == 2


def listening(port: int) -> int:
    """How many sockets listen on a port of 127.0.0.1."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1] == f"0100007F:{port:04X}" and row[3] == "0A" for row in rows)


def test_nobody_holds_the_port_when_it_has_ended(service: Callable[..., Service]) -> None:
    """Also where the application has started a process that stays."""
    server = service(
        """
from subprocess import DEVNULL, Popen
def handle_request(request):
    started = Popen(["sleep", "3600"], close_fds=False, start_new_session=True,
                    stdout=DEVNULL, stderr=DEVNULL)
    return b"%d" % started.pid
""",
        "--workers",
        "2",
        "--dispatch",
        "direct",
    )
    stays = int(server.ask(b""))
    try:
        server.stop()
        assert listening(server.port) == 0
    finally:
        os.kill(stays, signal.SIGKILL)
