"""How workers are started: what they inherit, what is told when they cannot boot, and that it is
tried again."""

from __future__ import annotations

import json
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from command_line import LIMIT_SECONDS, CommandLine

import green_router
from green_router.processes.supervisor.spawner import Spawner
from green_router.processes.worker import main
from green_router.settings import Service as ServiceSettings

from ..conftest import ANY_PORT, DISPATCH, PATIENCE, PID, Service, ready, states, workers_of

BROKEN = "raise RuntimeError('no database')"

ELSEWHERE = "from green_router.commands import main\nmain()\n"
"""``green-router`` as a script in a directory of its own: the current one is not where Python looks
first."""


# -- how -------------------------------------------------------------------------------------------


@DISPATCH
def test_a_worker_is_a_program_of_its_own(service: Callable[..., Service], dispatch: str) -> None:
    server = service(PID, "--workers", "2", "--dispatch", dispatch)
    for number, pid in enumerate(server.workers(), 1):
        command = Path(f"/proc/{pid}/cmdline").read_bytes().decode().split("\0")[:-1]
        assert command[0] == sys.executable
        assert command[-4] == main.__file__
        assert command[-1] == f"slot={number}"
        assert os.getsid(pid) == pid


def test_nothing_is_left_open_for_a_worker_but_its_own(service: Callable[..., Service]) -> None:
    """Its line, its file for stacks, and what it has made itself: no end of the line of another
    one."""
    server = service(
        """
import os, socket
def handle_request(request):
    ends = [name for name in os.listdir("/proc/self/fd") if os.path.exists("/proc/self/fd/" + name)]
    return b"%d" % sum(os.readlink("/proc/self/fd/" + name).startswith("socket:") for name in ends)
""",
        "--workers",
        "3",
    )
    assert int(server.ask(b"")) == 1


def test_the_current_directory_is_not_looked_into_for_the_standard_library(
    command_line: CommandLine, service: Callable[..., Service]
) -> None:
    command_line.write("elsewhere/green_router_command.py", ELSEWHERE)
    command_line.command = (
        sys.executable,
        str(command_line.directory / "elsewhere" / "green_router_command.py"),
    )
    for name in ("queue", "select", "marshal", "faulthandler", "struct", "signal", "ctypes"):
        command_line.write(f"{name}.py", "raise RuntimeError('this is not the standard library')")
    server = service(PID, "--workers", "1")
    server.ask(b"")


def test_a_worker_is_run_as_its_supervisor_was(
    command_line: CommandLine, service: Callable[..., Service]
) -> None:
    command_line.command = (
        sys.executable,
        "-O",
        "-X",
        "utf8",
        "-W",
        "ignore::UserWarning",
        "-m",
        "green_router",
    )
    server = service(
        """
import json, sys
def handle_request(request):
    flags, options = sys.flags, sys.warnoptions
    found = [flags.optimize, flags.utf8_mode, "ignore::UserWarning" in options, sys.path]
    return json.dumps(found).encode()
""",
        "--workers",
        "1",
    )
    *flags, path = json.loads(server.ask(b""))
    assert flags == [1, 1, True]
    assert str(Path(green_router.__file__).parents[1]) in path


def test_workers_are_not_replaced_all_at_once() -> None:
    nobody: Any = None

    def limits(**settings: int) -> set[int | None]:
        spawner = Spawner("module:load", ServiceSettings(**settings), {}, nobody, nobody)
        return {spawner.limit() for _ in range(1000)}

    assert limits(max_requests=10, max_requests_jitter=5) == {10, 11, 12, 13, 14, 15}
    assert limits(max_requests=10) == {10}
    assert limits(max_requests_jitter=5) == {None}


@DISPATCH
def test_real_workers_are_not_either(service: Callable[..., Service], dispatch: str) -> None:
    """With so much of chance that a limit which any test reaches has none in it."""
    server = service(
        PID,
        "--workers",
        "1",
        "--dispatch",
        dispatch,
        "--max-requests",
        "1",
        "--max-requests-jitter",
        str(10**9),
    )
    for _ in range(3):
        server.ask(b"")
    server.wait_for(lambda stats: stats["sum"]["fates"]["answered"] == 3)
    assert not any("to be replaced" in line for line in server.stop())


# -- what cannot boot ------------------------------------------------------------------------------


@DISPATCH
def test_what_cannot_boot_later_is_tried_again(
    service: Callable[..., Service], dispatch: str
) -> None:
    """All workers are gone, and the application is broken for a while: that is an outage, and not
    the end."""
    server = service(PID, "--workers", "2", "--dispatch", dispatch)
    server.line.write("app.py", BROKEN)
    for pid in server.workers():
        os.kill(pid, signal.SIGKILL)
    server.running.err.until("no database; the next starts in 0.2 s")
    server.wait_for(states("waiting", "waiting"))
    server.running.err.until("no database; the next starts in 0.4 s")
    server.line.write("app.py", PID)
    server.wait_for(ready(2))
    assert int(server.ask(b"")) in server.workers()


BOOT_TIMEOUT = 2 * PATIENCE
"""Seconds in which one that does not hang has booted."""

HANGS = "import os, time\nwhile os.path.exists('hang'):\n    time.sleep(0.01)\n" + PID


@DISPATCH
def test_a_boot_that_hangs_is_an_error(command_line: CommandLine, dispatch: str) -> None:
    command_line.write("app.py", HANGS)
    command_line.write("hang", "")
    done = command_line.run(
        "serve",
        "app:handle_request",
        "--bind",
        ANY_PORT,
        "--workers",
        "2",
        "--dispatch",
        dispatch,
        "--boot-timeout",
        f"{BOOT_TIMEOUT:g}",
    )
    assert (done.returncode, done.stdout) == (4, b"")
    assert (
        f"the worker had not booted after {BOOT_TIMEOUT:g} s and was killed by SIGABRT while it "
        "loaded app" in done.stderr.decode()
    )
    assert 'app.py", line 3, in <module>' in done.stderr.decode()


def test_a_later_boot_that_hangs_is_ended(service: Callable[..., Service]) -> None:
    server = service(HANGS, "--workers", "1", "--boot-timeout", f"{BOOT_TIMEOUT:g}")
    (old,) = server.workers()
    server.line.write("hang", "")
    server.signal(signal.SIGHUP)
    server.running.err.until(
        f"did not boot: had not booted after {BOOT_TIMEOUT:g} s and was killed by SIGABRT; the old "
        "one goes on"
    )
    server.running.err.until("the reload has failed: 0 of 1 workers are new")
    assert server.workers() == [old]
    os.kill(old, signal.SIGKILL)
    server.running.err.until(
        f"had not booted after {BOOT_TIMEOUT:g} s and was killed by SIGABRT; the next starts in"
    )
    (server.line.directory / "hang").unlink()
    server.wait_for(ready(1))


# -- what cannot be started ------------------------------------------------------------------------


def descriptors(pid: int) -> list[int]:
    return sorted(map(int, os.listdir(f"/proc/{pid}/fd")))


@DISPATCH
def test_without_descriptors_the_others_go_on(
    service: Callable[..., Service], dispatch: str
) -> None:
    """A worker dies, one shall be added, and all replaced, and nothing of that is possible for a
    while."""
    server = service(
        "def handle_request(request):\n    return request.data\n",
        "--workers",
        "2",
        "--dispatch",
        dispatch,
    )
    server.wait_for(ready(2))
    clients = [server.client() for _ in range(20)]
    for client in clients:
        client.send(b"here")
        assert client.recv() == b"here"
    before = descriptors(server.pid)
    limits = resource.prlimit(server.pid, resource.RLIMIT_NOFILE)
    # What is open stays so, nothing more can be.
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
    log = server.running.err
    os.kill(workers_of(server.pid)[0], signal.SIGKILL)
    log.until("cannot be started: [Errno 24] Too many open files; the next starts in 0.2 s")
    server.signal(signal.SIGTTIN)
    log.until("worker 3 cannot be started: ")
    server.signal(signal.SIGHUP)
    log.until("the reload has failed: 0 of 3 workers are new")
    answered = 0
    for client in clients:
        client.send(b"still here")
        answered += bool(
            client.poll(1000 * LIMIT_SECONDS if dispatch == "front" else 100 * PATIENCE)
        )
    assert answered == 20 if dispatch == "front" else answered > 0
    resource.prlimit(server.pid, resource.RLIMIT_NOFILE, limits)
    server.wait_for(ready(3))
    server.signal(signal.SIGTTOU)
    server.wait_for(ready(2))
    until = time.monotonic() + LIMIT_SECONDS
    while len(descriptors(server.pid)) > len(before):
        assert time.monotonic() < until, (before, descriptors(server.pid))
        time.sleep(0.01)
    server.stop()
