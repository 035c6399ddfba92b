"""Whether loops turn: nobody is asked while all rest, and none that does not turn any more goes
unnoticed."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import gevent
import zmq
from command_line import LIMIT_SECONDS

from green_router.processes.supervisor.liveness import ASKED_PER_TIMEOUT, LivenessMonitor

from ..conftest import DISPATCH, Service

WAITS = """
import time
import gevent
kept = []
def handle_request(request):
    if request.data == b"keep":
        kept.append(request)
    elif request.data == b"spin":
        gevent.sleep(1.5)
        print("spins", flush=True)
        until = time.monotonic() + 3600
        while time.monotonic() < until:
            pass
    else:
        return request.data
"""

TIMEOUT = 0.6
"""A worker_timeout: who does not rest is asked five times a second."""


def switches(pids: list[int]) -> list[int]:
    """How often the threads of each process have gone to sleep: every wake-up is followed by
    one."""
    return [
        sum(
            int(line.split()[1])
            for task in Path(f"/proc/{pid}/task").iterdir()
            for line in (task / "status").read_text().splitlines()
            if line.startswith("voluntary_ctxt_switches")
        )
        for pid in pids
    ]


def come_to_rest(server: Service) -> list[int]:
    """Wait until nothing happens any more in any of its processes; returns their pids."""
    pids = [server.pid, *server.workers()]
    until = time.monotonic() + LIMIT_SECONDS
    while True:
        before = switches(pids)
        time.sleep(1)
        if switches(pids) == before:
            return pids
        assert time.monotonic() < until


@DISPATCH
def test_idle_means_no_wake_ups(service: Callable[..., Service], dispatch: str) -> None:
    """Also while requests are pending in the workers; and nobody is asked again when something has
    happened meanwhile."""
    server = service(
        WAITS, "--workers", "2", "--dispatch", dispatch, "--worker-timeout", str(TIMEOUT)
    )
    for _ in range(10):
        dealer = server.client(zmq.DEALER)
        for _ in range(20):
            dealer.send_multipart([b"", b"keep"])
    server.wait_for(lambda stats: stats["sum"].get("in_flight") == 200)
    for _ in range(2):
        pids = come_to_rest(server)
        before = switches(pids)
        time.sleep(2)
        assert switches(pids) == before
        assert server.ask(b"x") == b"x"


@DISPATCH
def test_a_handler_that_spins_after_a_rest_is_noticed(
    service: Callable[..., Service], dispatch: str
) -> None:
    """Nothing was sent to its worker when it began to: what woke the loop was a timer."""
    server = service(
        WAITS, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", str(TIMEOUT)
    )
    (pid,) = server.workers()
    server.client(zmq.DEALER).send_multipart([b"", b"spin"])
    server.running.out.until("spins")
    server.running.err.until(
        f"[{pid}] had blocked its loop for {TIMEOUT} s and was killed by SIGABRT"
    )
    assert server.ask(b"x") == b"x"


@DISPATCH
def test_a_worker_that_is_stopped_in_its_rest_is_noticed(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(
        WAITS, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", str(TIMEOUT)
    )
    _, pid = come_to_rest(server)
    os.kill(pid, signal.SIGSTOP)
    server.running.err.until(
        f"[{pid}] had blocked its loop for {TIMEOUT} s and was killed by SIGKILL"
    )
    assert server.ask(b"x") == b"x"


@DISPATCH
def test_a_worker_that_was_stopped_for_a_moment_goes_on(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(
        WAITS, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", str(20 * TIMEOUT)
    )
    _, pid = come_to_rest(server)
    for _ in range(3):
        os.kill(pid, signal.SIGSTOP)
        time.sleep(0.05)
        os.kill(pid, signal.SIGCONT)
    assert server.ask(b"x") == b"x"
    assert server.workers() == [pid]
    server.stop()


def test_a_busy_worker_is_asked_three_times_in_a_timeout() -> None:
    """And not all the time: between two looks the timer runs, also after the first."""
    busy = Mock(running=True, asked_at=None, active=True)
    watch = LivenessMonitor(Mock(children=[busy]), TIMEOUT, Mock())
    watch.look_soon()
    gevent.sleep(2 * TIMEOUT)
    watch.close()
    gevent.sleep(0)
    assert 1 <= busy.ask.call_count <= 2 * ASKED_PER_TIMEOUT
