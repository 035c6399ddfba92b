"""Workers come and go under load: who notices, that nobody gets a wrong reply, and that nothing is
left behind.

The sizes fit a machine with two slow cores; GREEN_ROUTER_TEST_FULL=1 gives those of the
documentation. ``-s`` shows what each run has seen.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import raw_peer
import zmq
from crowd import Crowd
from pipelines import Pipelines

from ..conftest import (
    DISPATCH,
    FULL,
    GATED,
    PATIENCE,
    PID,
    Belongings,
    Service,
    balanced,
    processes_in,
    ready,
    states,
)

WORKS = """
import gevent
def handle_request(request):
    gevent.sleep(0.002)
    return request.data
def lost(request, error):
    return b"lost"
def which(request, error):
    return b"lost " + request.data
"""

KILLS, KILL_EVERY = (60, 1.0) if FULL else (5, 0.6)
RELOADS = 10 if FULL else 3

PIRATE_PATIENCE = 2.0 * PATIENCE
"""Seconds: far above what a request takes, so that who asks again has lost one."""

WINDOW = ("--worker-window", "32")
"""So small that under the load of Pipelines every worker has its hands full, and requests wait."""


def kill_often(server: Service) -> int:
    """Kill -9 one worker after the other, while another is there; returns how many."""
    for killed in range(KILLS):
        time.sleep(KILL_EVERY)
        stats = server.wait_for(ready(2))
        os.kill(stats["workers"][killed % 2]["pid"], signal.SIGKILL)
    server.wait_for(ready(2))
    return KILLS


def quiet(stats: dict[str, Any]) -> bool:
    return bool(stats["sum"]["in_flight"] == stats["sum"]["waiting"] == 0)


def tell(words: str, stats: dict[str, Any], *crowds: Any) -> None:
    """Print what a run has seen."""
    events = {name: number for name, number in stats["sum"]["events"].items() if number}
    fates = {name: number for name, number in stats["sum"]["fates"].items() if number}
    seen = [
        {
            name: number
            for name, number in vars(crowd).items()
            if name in ("answered", "excused", "retried") and number
        }
        for crowd in crowds
    ]
    print(
        f"\n{words}: received {stats['sum']['received']}, {fates}, {events}; clients {seen}", end=""
    )


def test_killed_workers_take_along_only_what_they_had(service: Callable[..., Service]) -> None:
    """Lazy pirates: as many have to ask again as requests were lost, each gets its reply, and none
    a wrong one."""
    server = service(WORKS, "--workers", "2")
    belongings = Belongings(server, 2)
    with Crowd(server.context, server.endpoint, patience=PIRATE_PATIENCE) as crowd:
        killed = kill_often(server)
    stats = server.wait_for(quiet)
    tell(f"{killed} workers killed", stats, crowd)
    assert crowd.faults == []
    assert crowd.retried == stats["sum"]["fates"]["failed"] == stats["sum"]["events"]["lost"]
    assert 0 < crowd.retried < 8 * killed
    assert sum(row["deaths"] for row in stats["workers"]) == killed
    assert balanced(stats)
    belongings.check_end()


def test_lost_requests_are_excused(service: Callable[..., Service]) -> None:
    """Nobody asks twice, and with full windows and requests that wait: what was lost, and only
    that, is on_error's."""
    server = service(WORKS, "--workers", "2", "--on-error", "app:which", *WINDOW)
    belongings = Belongings(server, 2)
    with Pipelines(server.context, server.endpoint, excuse=b"lost ") as pipelines:
        killed = kill_often(server)
    stats = server.wait_for(quiet)
    tell(f"{killed} workers killed", stats, pipelines)
    assert pipelines.faults == []
    assert pipelines.excused == stats["sum"]["fates"]["failed"] == stats["sum"]["events"]["lost"]
    assert 0 < pipelines.excused <= 32 * killed
    assert balanced(stats)
    belongings.check_end()


def test_nobody_asks_twice_where_the_service_does(service: Callable[..., Service]) -> None:
    server = service(WORKS, "--workers", "2", "--retry-lost", "1", *WINDOW)
    belongings = Belongings(server, 2)
    with (
        Crowd(server.context, server.endpoint) as crowd,
        Pipelines(server.context, server.endpoint) as pipelines,
    ):
        killed = kill_often(server)
    stats = server.wait_for(quiet)
    tell(f"{killed} workers killed", stats, crowd, pipelines)
    assert crowd.faults == pipelines.faults == []
    total = stats["sum"]
    assert total["fates"]["answered"] == total["received"] == crowd.answered + pipelines.answered
    assert 0 < total["events"]["retried"] == total["events"]["lost"] <= 32 * killed
    belongings.check_end()


def test_replacing_workers_is_not_noticed(service: Callable[..., Service]) -> None:
    """By nobody, and nobody asks twice: HUP, TTIN, TTOU and max-requests, with full windows and
    requests that wait."""
    server = service(
        WORKS, "--workers", "2", "--max-requests", "5000", "--max-requests-jitter", "1000", *WINDOW
    )
    belongings = Belongings(server, 2)
    with (
        Crowd(server.context, server.endpoint) as crowd,
        Pipelines(server.context, server.endpoint) as pipelines,
    ):
        for _ in range(RELOADS):
            before = server.workers()
            server.signal(signal.SIGHUP)
            server.wait_for(ready(2, before))
        server.signal(signal.SIGTTIN)
        server.wait_for(ready(3))
        server.signal(signal.SIGTTOU)
        server.wait_for(ready(2))
        server.running.err.until("to be replaced")
    stats = server.wait_for(quiet)
    tell(f"{RELOADS} reloads", stats, crowd, pipelines)
    assert crowd.faults == pipelines.faults == []
    total = stats["sum"]
    assert total["fates"]["answered"] == total["received"] == crowd.answered + pipelines.answered
    assert total["events"]["lost"] == 0
    server.wait_for(ready(2))
    belongings.check_end()


@DISPATCH
def test_sigterm_under_load(service: Callable[..., Service], dispatch: str) -> None:
    """Every request that was taken is answered: the clients count replies, the service says how
    many it took."""
    server = service(WORKS, "--workers", "2", "--dispatch", dispatch, "--log-level", "info")
    dealers = [server.client(zmq.DEALER) for _ in range(4)]
    end = threading.Event()
    replies = [0] * len(dealers)

    def flood(number: int) -> None:
        dealer, sent = dealers[number], 0
        while not end.is_set():
            if sent - replies[number] < 50:
                dealer.send_multipart([b"", b"x"], zmq.NOBLOCK)
                sent += 1
            while dealer.poll(0 if sent - replies[number] < 50 else 20):
                dealer.recv_multipart()
                replies[number] += 1

    threads = [threading.Thread(target=flood, args=(number,)) for number in range(len(dealers))]
    for thread in threads:
        thread.start()
    server.wait_for(lambda stats: stats["sum"]["received"] > 1000)
    assert len(processes_in(server.line.directory)) == 3
    log = server.stop()
    assert processes_in(server.line.directory) == []
    end.set()
    for thread in threads:
        thread.join()
    taken = [line for line in log if "all workers together: " in line][-1]
    received, answered = (
        int(taken.split(f" {word}")[0].split()[-1]) for word in ("received", "answered")
    )
    print(
        f"\n{dispatch}: {received} received, {answered} answered, {sum(replies)} replies came",
        end="",
    )
    assert received == answered == sum(replies)


def test_a_burst_of_connections_is_spread(service: Callable[..., Service]) -> None:
    """Every worker gets some, none hangs in accept, and after a while without work each still
    answers its clients."""
    server = service(PID, "--workers", "8", "--dispatch", "direct")
    clients = [server.client() for _ in range(500)]
    for client in clients:
        client.send(b"")
    first = [client.recv() for client in clients]
    assert set(map(int, first)) == set(server.workers())
    time.sleep(60 if FULL else 2)
    for client in clients:
        client.send(b"")
    assert [client.recv() for client in clients] == first


def test_connections_wait_while_a_direct_worker_is_replaced(
    service: Callable[..., Service],
) -> None:
    """The only worker is dead for a while, and so is the next one: who connects meanwhile is served
    by the one after that, on the same connection."""
    server = service(GATED, "--workers", "1", "--dispatch", "direct")
    server.line.write("wait", "")
    os.kill(server.workers()[0], signal.SIGKILL)
    (row,) = server.wait_for(states("booting"))["workers"]
    clients = [server.client() for _ in range(20)]
    for client in clients:
        client.send(b"")
    with raw_peer.connected(("127.0.0.1", server.port)) as waiting:
        os.kill(row["pid"], signal.SIGKILL)
        server.running.err.until(f"[{row['pid']}] was killed by SIGKILL; the next starts in")
        (server.line.directory / "wait").unlink()
        assert raw_peer.receive(waiting, 10)[0] == 0xFF
    assert {int(client.recv()) for client in clients} == set(server.workers())


def test_ipc_is_shared_by_direct_workers(service: Callable[..., Service], tmp_path: Any) -> None:
    endpoint = f"ipc://{tmp_path}/s"
    server = service(PID, "--workers", "2", "--dispatch", "direct", bind=endpoint)
    assert server.endpoint == endpoint
    clients = [server.client() for _ in range(50)]
    for client in clients:
        client.send(b"")
    assert {int(client.recv()) for client in clients} <= set(server.workers())
    server.stop()
    assert not (tmp_path / "s").exists()


def test_one_dealer_uses_all_workers(service: Callable[..., Service]) -> None:
    server = service(
        """
import os, time
def handle_request(request):
    until = time.perf_counter() + 0.002
    while time.perf_counter() < until:
        pass
    return b"%d" % os.getpid()
""",
        "--workers",
        "2",
    )
    dealer = server.client(zmq.DEALER)
    for _ in range(200):
        dealer.send_multipart([b"", b""])
    served = [int(dealer.recv_multipart()[1]) for _ in range(200)]
    assert set(served) == set(server.workers())
    assert min(map(served.count, set(served))) > 50
