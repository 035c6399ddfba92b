"""Workers that are replaced while they serve: by a reload, because they have done their share, and
what may come between."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Callable, Iterator

import pytest
from command_line import LIMIT_SECONDS, CommandLine
from crowd import Crowd

from ..conftest import DISPATCH, GATED, PID, Service, alive, balanced, ready, states

BROKEN = "raise RuntimeError('no database')"
ECHO = "def handle_request(request):\n    return request.data\n"
BROKEN_IN_SLOT_2 = f"import sys\nif 'slot=2' in sys.argv:\n    {BROKEN}\n" + ECHO


@pytest.fixture
def told(command_line: CommandLine) -> Iterator[socket.socket]:
    """What the service manager is told, a datagram each."""
    path = str(command_line.directory / "notify")
    command_line.env["NOTIFY_SOCKET"] = path
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(path)
        heard.settimeout(LIMIT_SECONDS)
        yield heard


def begun(server: Service, old: set[int], *, slot: int) -> int:
    """Wait until a worker that is none of the old ones boots in a slot; returns its pid."""

    def row(stats: dict) -> list[int]:
        return [
            row["pid"]
            for row in stats["workers"]
            if row["slot"] == slot and row["state"] == "booting" and row["pid"] not in old
        ]

    pid: int = row(server.wait_for(lambda stats: bool(row(stats))))[0]
    return pid


@DISPATCH
def test_who_boots_when_a_reload_begins_is_replaced_too(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(GATED, "--workers", "2", "--dispatch", dispatch)
    first = set(server.workers())
    server.line.write("wait", "")
    os.kill(min(first), signal.SIGKILL)
    server.wait_for(lambda stats: any(row["state"] == "booting" for row in stats["workers"]))
    first |= {row["pid"] for row in server.stats()["workers"]}
    server.signal(signal.SIGHUP)
    server.running.err.until("was given up and was killed by SIGKILL")
    (server.line.directory / "wait").unlink()
    server.wait_for(ready(2, first))
    assert int(server.ask(b"")) in server.workers()
    log = server.stop()
    assert not any("did not boot" in line or "failed" in line for line in log)


@DISPATCH
def test_a_reload_before_all_have_booted_comes_then(
    command_line: CommandLine, service: Callable[..., Service], dispatch: str
) -> None:
    command_line.write("wait", "")
    server = service(GATED, "--workers", "2", "--dispatch", dispatch, serves=False)
    first = {row["pid"] for row in server.wait_for(states("booting", "booting"))["workers"]}
    server.signal(signal.SIGHUP)
    server.running.err.until("SIGHUP: reloading")
    (server.line.directory / "wait").unlink()
    server.serves()
    server.wait_for(ready(2, first))


def test_a_reload_that_fails_half_way_says_so(
    service: Callable[..., Service], told: socket.socket
) -> None:
    """Under load: nobody notices."""
    server = service(ECHO, "--workers", "2")
    assert told.recv(1000).startswith(b"READY=1\n")
    first = server.workers()
    with Crowd(server.context, server.endpoint) as crowd:
        server.line.write("app.py", BROKEN_IN_SLOT_2)
        server.signal(signal.SIGHUP)
        assert told.recv(1000).startswith(b"RELOADING=1\n")
        server.running.err.until("did not boot: app was found, but is broken inside")
        server.running.err.until("the reload has failed: 1 of 2 workers are new")
        assert told.recv(1000) == b"READY=1\nSTATUS=the reload has failed: 1 of 2 workers are new"
        stats = server.wait_for(ready(2, [first[0]]))
    assert crowd.faults == []
    assert first[1] in [row["pid"] for row in stats["workers"]]
    assert balanced(server.stats())
    server.line.write("app.py", ECHO)
    server.signal(signal.SIGHUP)
    server.wait_for(ready(2, first))
    assert told.recv(1000).startswith(b"RELOADING=1\n")
    assert told.recv(1000) == b"READY=1\nSTATUS=reloaded"


@DISPATCH
def test_a_successor_that_somebody_kills_does_not_end_a_reload(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(GATED, "--workers", "2", "--dispatch", dispatch)
    first = server.workers()
    server.line.write("wait", "")
    server.signal(signal.SIGHUP)
    victim = begun(server, set(first), slot=1)
    assert states("ready", "booting", "ready")(server.stats())  # one at a time
    os.kill(victim, signal.SIGKILL)
    server.running.err.until("did not boot: was killed by SIGKILL; the old one goes on")
    (server.line.directory / "wait").unlink()
    server.wait_for(ready(2, first))


def test_one_whose_successors_are_all_killed_does(service: Callable[..., Service]) -> None:
    server = service(GATED, "--workers", "1")
    old = set(server.workers())
    server.line.write("wait", "")
    server.signal(signal.SIGHUP)
    for _ in range(4):
        victim = begun(server, old, slot=1)
        old.add(victim)
        os.kill(victim, signal.SIGKILL)
    server.running.err.until("the reload has failed: 0 of 1 workers are new")
    assert int(server.ask(b"")) in old


@DISPATCH
def test_a_worker_that_dies_while_its_successor_boots_is_succeeded_at_once(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(GATED, "--workers", "1", "--dispatch", dispatch)
    (old,) = server.workers()
    server.line.write("wait", "")
    server.signal(signal.SIGHUP)
    successor = begun(server, {old}, slot=1)
    os.kill(old, signal.SIGKILL)
    server.running.err.until(f"[{old}] was killed by SIGKILL; the next is starting")
    server.wait_for(states("booting"))
    (server.line.directory / "wait").unlink()
    assert server.wait_for(ready(1))["workers"][0]["pid"] == successor
    assert int(server.ask(b"")) == successor


@DISPATCH
def test_a_recycled_worker_whose_successor_does_not_boot_is_tried_again(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(PID, "--workers", "1", "--dispatch", dispatch, "--max-requests", "5")
    (old,) = server.workers()
    server.line.write("app.py", BROKEN)
    for _ in range(6):
        assert int(server.ask(b"")) == old
    for _ in range(2):
        server.running.err.until("did not boot: app was found, but is broken inside")
    assert int(server.ask(b"")) == old
    server.line.write("app.py", PID)
    server.wait_for(ready(1, [old]))


# -- TTOU ------------------------------------------------------------------------------------------


SLOW = (
    """
import os, time
print("boots", flush=True)
while os.path.exists("wait"):
    time.sleep(0.01)
"""
    + PID
)


@DISPATCH
def test_a_worker_that_is_told_to_go_while_it_boots_is_replaced_then(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(SLOW, "--workers", "1", "--dispatch", dispatch)
    old = set(server.workers())
    server.line.write("wait", "")
    server.signal(signal.SIGHUP)
    server.running.out.until("boots")
    booting = begun(server, old, slot=1)
    os.kill(booting, signal.SIGTERM)
    server.running.err.until(f"worker 1 [{booting}]: to be replaced")
    (server.line.directory / "wait").unlink()
    server.wait_for(ready(1, old | {booting}))
    server.stop()


@DISPATCH
def test_ttou_may_remove_the_one_that_is_waited_for(
    command_line: CommandLine, service: Callable[..., Service], dispatch: str
) -> None:
    """While the service boots: with the others complete, it serves."""
    command_line.write("wait for slot=2", "")
    server = service(GATED, "--workers", "2", "--dispatch", dispatch, serves=False)
    server.wait_for(states("ready", "booting"))
    server.signal(signal.SIGTTOU)
    server.serves()
    server.wait_for(ready(1))
    server.ask(b"")


@DISPATCH
def test_ttou_may_remove_the_last_step_of_a_reload(
    service: Callable[..., Service], told: socket.socket, dispatch: str
) -> None:
    server = service(GATED, "--workers", "2", "--dispatch", dispatch)
    assert told.recv(1000).startswith(b"READY=1\n")
    first = set(server.workers())
    server.line.write("wait for slot=2", "")
    server.signal(signal.SIGHUP)
    assert told.recv(1000).startswith(b"RELOADING=1\n")
    begun(server, first, slot=2)
    server.signal(signal.SIGTTOU)
    assert told.recv(1000) == b"READY=1\nSTATUS=reloaded"
    server.wait_for(ready(1, first))


@DISPATCH
@pytest.mark.parametrize("removed", [True, False], ids=["removed", "kept"])
def test_clients_do_not_wait_at_an_empty_place(
    service: Callable[..., Service], dispatch: str, removed: bool
) -> None:
    """Its worker cannot boot any more. Nobody is left with a socket that nobody serves, also if the
    place is removed."""
    server = service(
        "import os, sys\nif os.path.exists('broken') and 'slot=2' in sys.argv:\n    os._exit(9)\n"
        + PID,
        "--workers",
        "2",
        "--dispatch",
        dispatch,
    )
    server.line.write("broken", "")
    os.kill(server.workers()[1], signal.SIGKILL)
    for _ in range(4):
        server.running.err.until("ended with exit code 9; the next starts in")
    if removed:
        server.signal(signal.SIGTTOU)
        server.running.err.until("one worker fewer")
    clients = [server.client() for _ in range(30)]
    for client in clients:
        client.send(b"")
    assert {int(client.recv()) for client in clients} == {server.workers()[0]}
    if not removed:
        (server.line.directory / "broken").unlink()
        server.wait_for(ready(2))
    clients += [server.client() for _ in range(30)]
    for client in clients:
        client.send(b"")
    served = {int(client.recv()) for client in clients}
    assert served == set(server.workers()) or dispatch == "front"
    assert all(map(alive, served))
