"""Workers come and go under load: who notices, and that nobody gets a wrong reply.

The sizes fit a machine with two slow cores; GREEN_ROUTER_TEST_FULL=1 gives those of the documentation.
"""
from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import zmq
from crowd import Crowd

from .conftest import FULL, PATIENCE, Service, balanced, workers_of

WORKS = """
import gevent
def handle_request(request):
    gevent.sleep(0.002)
    return request.data
def lost(request, error):
    return b"lost"
"""

DISPATCH = pytest.mark.parametrize("dispatch", ["front", "direct"])

KILLS, KILL_EVERY = (60, 1.0) if FULL else (5, 0.6)

PIRATE_PATIENCE = 2.0 * PATIENCE
"""Seconds: far above what a request takes, so that who asks again has lost one."""


def kill_often(server: Service) -> int:
    """Kill -9 one worker after the other, while another is there; returns how many."""
    for killed in range(KILLS):
        time.sleep(KILL_EVERY)
        stats = server.wait_for(lambda stats: all(row["state"] == "ready" for row in stats["workers"]))
        os.kill(stats["workers"][killed % 2]["pid"], signal.SIGKILL)
    return KILLS


def quiet(stats: dict[str, Any]) -> bool:
    return bool(stats["sum"]["in_flight"] == stats["sum"]["waiting"] == 0)


def test_killed_workers_take_along_only_what_they_had(service: Callable[..., Service]) -> None:
    server = service(WORKS, "--workers", "2")
    with Crowd(server.context, server.endpoint, patience=PIRATE_PATIENCE) as crowd:
        killed = kill_often(server)
    stats = server.wait_for(quiet)
    assert crowd.faults == []
    lost = stats["sum"]["fates"]["failed"]
    assert crowd.retried == lost
    assert 0 < lost < 8 * killed
    assert sum(row["deaths"] for row in stats["workers"]) == killed
    assert balanced(stats)
    server.stop()


def test_lost_requests_are_excused(service: Callable[..., Service]) -> None:
    server = service(WORKS, "--workers", "2", "--on-error", "app:lost")
    with Crowd(server.context, server.endpoint, excuse=b"lost") as crowd:
        kill_often(server)
    assert crowd.faults == []
    assert crowd.excused == server.wait_for(quiet)["sum"]["fates"]["failed"] > 0


def test_nobody_asks_twice_where_the_service_does(service: Callable[..., Service]) -> None:
    server = service(WORKS, "--workers", "2", "--retry-lost", "1")
    with Crowd(server.context, server.endpoint) as crowd:
        kill_often(server)
    stats = server.wait_for(quiet)
    assert crowd.faults == []
    assert stats["sum"]["fates"]["answered"] == stats["sum"]["received"] == crowd.answered
    server.stop()


def test_replacing_workers_is_not_noticed(service: Callable[..., Service]) -> None:
    server = service(WORKS, "--workers", "2", "--max-requests", "2000", "--max-requests-jitter", "500")
    with Crowd(server.context, server.endpoint) as crowd:
        for _ in range(10 if FULL else 3):
            before = frozenset(server.workers())
            server.signal(signal.SIGHUP)
            server.wait_for(lambda stats, before=before: not any(row["pid"] in before for row in stats["workers"]))
        server.signal(signal.SIGTTIN)
        server.wait_for(lambda stats: len([row for row in stats["workers"] if row["state"] == "ready"]) == 3)
        server.signal(signal.SIGTTOU)
        server.wait_for(lambda stats: len(stats["workers"]) == 2)
        server.running.err.until("to be replaced")
    stats = server.wait_for(quiet)
    assert crowd.faults == []
    assert stats["sum"]["fates"]["answered"] == stats["sum"]["received"] == crowd.answered
    assert balanced(stats)
    server.stop()


def test_direct_workers_are_killed_and_replaced(service: Callable[..., Service]) -> None:
    server = service(WORKS, "--workers", "2", "--dispatch", "direct")
    with Crowd(server.context, server.endpoint, patience=0.5 * PATIENCE) as crowd:
        kill_often(server)
        for _ in range(10 if FULL else 3):
            before = frozenset(server.workers())
            server.signal(signal.SIGHUP)
            server.wait_for(lambda stats, before=before: not any(row["pid"] in before for row in stats["workers"]))
    assert crowd.faults == []
    assert balanced(server.stats())
    server.stop()


@DISPATCH
def test_sigterm_under_load(service: Callable[..., Service], dispatch: str) -> None:
    """Every request that was taken is answered: the clients count replies, the service says how many it took."""
    server = service(WORKS, "--workers", "2", "--dispatch", dispatch, "--log-level", "info")
    dealers = [server.client(zmq.DEALER) for _ in range(4)]
    end = threading.Event()
    replies = [0] * len(dealers)

    def flood(number: int) -> None:
        dealer, sent = dealers[number], 0
        while not end.is_set():
            if sent - replies[number] < 20:
                dealer.send_multipart([b"", b"x"], zmq.NOBLOCK)
                sent += 1
            while dealer.poll(0 if sent - replies[number] < 20 else 20):
                dealer.recv_multipart()
                replies[number] += 1

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(len(dealers))]
    for thread in threads:
        thread.start()
    server.wait_for(lambda stats: stats["sum"]["received"] > 1000)
    log = server.stop()
    end.set()
    for thread in threads:
        thread.join()
    taken = [line for line in log if "all workers together: " in line][-1]
    received, answered = (int(taken.split(f" {word}")[0].split()[-1]) for word in ("received", "answered"))
    assert received == answered == sum(replies)
    assert not workers_of(server.pid)


def test_a_burst_of_connections_is_spread(service: Callable[..., Service]) -> None:
    """Every worker gets some, none hangs in accept, and after a while without work each still answers its clients."""
    server = service("import os\ndef handle_request(request):\n    return b'%d' % os.getpid()\n", "--workers", "8",
                     "--dispatch", "direct")
    clients = [server.client() for _ in range(500)]
    for client in clients:
        client.send(b"")
    first = [client.recv() for client in clients]
    assert set(map(int, first)) == set(server.workers())
    time.sleep(60 if FULL else 2)
    for client in clients:
        client.send(b"")
    assert [client.recv() for client in clients] == first


def test_connections_wait_while_a_direct_worker_is_replaced(service: Callable[..., Service]) -> None:
    """The only worker is dead for a while: clients that connect meanwhile are served by the next, none is refused."""
    server = service(WORKS, "--workers", "1", "--dispatch", "direct")
    os.kill(server.workers()[0], signal.SIGKILL)
    clients = [server.client() for _ in range(20)]
    for client in clients:
        client.send(b"x")
    assert [client.recv() for client in clients] == [b"x"] * 20


def test_ipc_is_shared_by_direct_workers(service: Callable[..., Service], tmp_path: Any) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    server = service("import os\ndef handle_request(request):\n    return b'%d' % os.getpid()\n", "--workers", "2",
                     "--dispatch", "direct", bind=endpoint)
    assert server.endpoint == endpoint
    clients = [server.client() for _ in range(50)]
    for client in clients:
        client.send(b"")
    assert {int(client.recv()) for client in clients} <= set(server.workers())
    server.stop()
    assert not (tmp_path / "s").exists()


def test_one_dealer_uses_all_workers(service: Callable[..., Service]) -> None:
    server = service("""
import os, time
def handle_request(request):
    until = time.perf_counter() + 0.002
    while time.perf_counter() < until:
        pass
    return b"%d" % os.getpid()
""", "--workers", "2")
    dealer = server.client(zmq.DEALER)
    for _ in range(200):
        dealer.send_multipart([b"", b""])
    served = [int(dealer.recv_multipart()[1]) for _ in range(200)]
    assert set(served) == set(server.workers())
    assert min(map(served.count, set(served))) > 50
