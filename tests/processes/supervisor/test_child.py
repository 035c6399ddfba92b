"""How workers end: with their supervisor, by force where they are stuck, and with the cause
told."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import zmq
from command_line import LIMIT_SECONDS, CommandLine

from green_router.processes.supervisor.child import HURRY_WITHIN, LEAVE_WITHIN, Child, State
from green_router.processes.supervisor.pool import WorkerPool
from green_router.processes.worker.direct_worker import TELL_EVERY

from ..conftest import DISPATCH, PATIENCE, PID, Service, alive, gone, ready, workers_of

STUCK = """
import ctypes, os, signal, sys, gevent
if os.path.exists("ignore"):
    signal.signal(signal.SIGABRT, signal.SIG_IGN)
def handle_request(request):
    if request.data == b"hold":
        print("held", flush=True)
        ctypes.PyDLL(None).sleep(3600)      # C code that keeps the interpreter for itself
    if request.data == b"wait":
        print("waits", flush=True)
        gevent.sleep(3600)
    return b"%d" % os.getpid()
"""


# -- with the supervisor ---------------------------------------------------------------------------


@DISPATCH
def test_a_worker_that_is_stuck_in_c_ends_with_its_supervisor(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(STUCK, "--workers", "2", "--dispatch", dispatch)
    pids = workers_of(server.pid)
    server.client(zmq.DEALER).send_multipart([b"", b"hold"])
    server.running.out.until("held")
    os.kill(server.pid, signal.SIGKILL)
    assert gone(pids)


IMMORTAL = """
import os, signal, sys
from green_router.processes.supervisor import child, process
real = os.kill
process.KILLED_WITHIN = process.STACKS_WITHIN = child.GONE_WITHIN = child.HURRY_WITHIN = 0.1
def kill(pid, number):
    if number != signal.SIGKILL or not os.path.exists("immortal"):
        real(pid, number)
os.kill = kill
from green_router.commands import main
main()
"""
"""A supervisor whose SIGKILL does nothing, as where a process is in a call that cannot be
interrupted."""


@DISPATCH
def test_a_worker_that_does_not_even_end_by_sigkill_is_left_behind(
    command_line: CommandLine, service: Callable[..., Service], dispatch: str
) -> None:
    """Its place is taken by another, and the supervisor ends without it."""
    program = command_line.write("immortal.py", IMMORTAL)
    command_line.command = (sys.executable, str(program))
    server = service(
        PID, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", "0.5", "--grace", "0.1"
    )
    (pid,) = server.workers()
    command_line.write("immortal", "")
    os.kill(pid, signal.SIGSTOP)
    server.running.err.until(
        f"[{pid}] had blocked its loop for 0.5 s and does not end, although it was sent SIGKILL"
    )
    other = int(server.ask(b""))
    assert other != pid
    os.kill(other, signal.SIGSTOP)
    server.signal(signal.SIGTERM)
    server.signal(signal.SIGTERM)
    assert server.running.ends() == 0
    assert gone([pid, other])


# -- stuck -----------------------------------------------------------------------------------------


@DISPATCH
def test_a_worker_that_is_stuck_in_c_is_named_and_replaced(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(STUCK, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", "0.6")
    (pid,) = server.workers()
    server.client(zmq.DEALER).send_multipart([b"", b"hold"])
    server.running.err.until(f"[{pid}] had blocked its loop for 0.6 s and was killed by SIGABRT")
    server.running.err.until('app.py", line 8 in handle_request')
    assert int(server.ask(b"")) != pid


@DISPATCH
def test_a_worker_that_cannot_be_aborted_is_killed(
    service: Callable[..., Service], dispatch: str
) -> None:
    """It is looked at again before force is used: that must not begin from the beginning."""
    server = service(
        STUCK, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", "0.6", serves=False
    )
    server.line.write("ignore", "")
    server.serves()
    server.signal(signal.SIGHUP)
    (pid,) = {row["pid"] for row in server.wait_for(ready(1, server.workers()))["workers"]}
    server.client(zmq.DEALER).send_multipart([b"", b"hold"])
    server.running.err.until(f"[{pid}] had blocked its loop for 0.6 s and was killed by SIGKILL")
    assert int(server.ask(b"")) != pid


@DISPATCH
def test_a_worker_that_is_stopped_is_killed(service: Callable[..., Service], dispatch: str) -> None:
    server = service(STUCK, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", "0.6")
    (pid,) = server.workers()
    server.client(zmq.DEALER).send_multipart([b"", b"wait"])
    server.running.out.until("waits")
    os.kill(pid, signal.SIGSTOP)
    server.running.err.until(f"[{pid}] had blocked its loop for 0.6 s and was killed by SIGKILL")
    assert int(server.ask(b"")) != pid


@DISPATCH
def test_a_worker_that_is_stuck_when_all_ends_is_named(
    service: Callable[..., Service], dispatch: str
) -> None:
    """In direct only it knows what it has in hand, and it tells nothing."""
    server = service(STUCK, "--workers", "1", "--dispatch", dispatch, "--grace", "3600")
    server.client(zmq.DEALER).send_multipart([b"", b"hold"])
    server.running.out.until("held")
    server.signal(signal.SIGTERM)
    waits_for = (
        "1 request in flight" if dispatch == "front" else "1 worker whose loop does not turn"
    )
    server.running.err.until(
        f"SIGTERM: draining, for 3600 s at the most: {waits_for}; a second signal ends it now"
    )
    server.signal(signal.SIGTERM)
    assert server.running.ends() == 0
    assert server.running.err.until("did not end in time and was killed by SIGKILL")


def test_who_has_work_in_hand_has_the_time_for_that_and_the_time_to_leave_once() -> None:
    child: Any = Child.__new__(Child)
    pool: Any = SimpleNamespace(_linger=0.75, _direct=True)
    said, times = [], []
    child.state, child.ready_at = State.READY, 0.0
    child.channel = SimpleNamespace(send=said.extend)
    child.process = SimpleNamespace(
        after=lambda seconds, action: times.append(seconds), kill=said.clear
    )
    WorkerPool._stop(pool, child, 2.0)
    WorkerPool._stop(pool, child, 0.0)
    assert said == [("stop", 2.0), ("stop", 0.0)]
    assert times == [2.0 + 0.75 + LEAVE_WITHIN, 0.75 + HURRY_WITHIN]


# -- leaving ---------------------------------------------------------------------------------------


@DISPATCH
def test_what_is_in_hand_may_have_longer_than_grace(
    service: Callable[..., Service], dispatch: str
) -> None:
    """When its worker is replaced: nothing else waits for that one to go."""
    server = service(
        """
import os, gevent
def handle_request(request):
    print("taken", flush=True)
    while not os.path.exists("go"):
        gevent.sleep(0.01)
    return b"%d" % os.getpid()
""",
        "--workers",
        "1",
        "--dispatch",
        dispatch,
        "--grace",
        "0.2",
        "--linger",
        "0.1",
        "--worker-grace",
        "3600",
    )
    (old,) = server.workers()
    client = server.client()
    client.send(b"")
    server.running.out.until("taken")
    server.signal(signal.SIGHUP)
    server.wait_for(
        lambda stats: [row["state"] for row in stats["workers"]] == ["ready", "leaving"]
    )
    until = time.monotonic() + 1.0
    while time.monotonic() < until:
        assert alive(old)
        time.sleep(0.05)
    server.line.write("go", "")
    assert int(client.recv()) == old
    server.wait_for(ready(1, [old]))


@DISPATCH
def test_what_is_in_hand_may_have_less(service: Callable[..., Service], dispatch: str) -> None:
    server = service(
        STUCK, "--workers", "1", "--dispatch", dispatch, "--worker-grace", "0.2", "--linger", "0.1"
    )
    (old,) = server.workers()
    server.client(zmq.DEALER).send_multipart([b"", b"wait"])
    server.running.out.until("waits")
    server.signal(signal.SIGHUP)
    server.wait_for(ready(1, [old]))
    stats = server.wait_for(lambda stats: stats["sum"]["in_flight"] == 0)
    assert stats["sum"]["fates"]["failed" if dispatch == "front" else "abandoned"] == 1


def test_a_killed_direct_worker_takes_along_no_more_than_the_last_second(
    service: Callable[..., Service],
) -> None:
    server = service(STUCK, "--workers", "1", "--dispatch", "direct")
    for _ in range(25):
        pid = int(server.ask(b""))
    time.sleep(2 * TELL_EVERY * PATIENCE)  # nobody asks: it tells
    os.kill(pid, signal.SIGKILL)
    server.running.err.until("was killed by SIGKILL")
    assert server.wait_for(ready(1))["sum"]["fates"]["answered"] == 25


FORKS = """
import ctypes, os
libc = ctypes.PyDLL(None)
child = libc.fork()                     # unknown to Python, which would have closed the line there
while child == 0:
    libc.pause()
with open("child", "w") as file:
    file.write(str(child))
def handle_request(request):
    return b"%d" % os.getpid()
"""


@DISPATCH
def test_a_worker_ends_though_a_process_that_it_forked_does_not(
    service: Callable[..., Service], dispatch: str
) -> None:
    """That one holds the line open; what comes in the second until it is closed changes nothing."""
    server = service(FORKS, "--workers", "1", "--dispatch", dispatch)
    (pid,) = server.workers()
    child = int((server.line.directory / "child").read_text())
    try:
        os.kill(pid, signal.SIGKILL)
        until = time.monotonic() + LIMIT_SECONDS
        while Path(f"/proc/{pid}").exists():  # until the supervisor has seen its end
            assert time.monotonic() < until
            time.sleep(0.001)
        server.signal(signal.SIGTERM)
        assert server.running.ends() == 0
    finally:
        os.kill(child, signal.SIGKILL)
