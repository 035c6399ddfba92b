"""Signals that come to another process than is meant, at another time, or once too often."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from command_line import LIMIT_SECONDS, CommandLine

from .conftest import ANY_PORT, DISPATCH, GATED, PID, Service, alive, ready, states

WORKERS = pytest.mark.parametrize(
    "options",
    [[], ["--workers", "1"], ["--workers", "1", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)

MEANT_FOR_THE_SUPERVISOR = [signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU]


@DISPATCH
def test_workers_survive_what_is_meant_for_the_supervisor(
    service: Callable[..., Service], dispatch: str
) -> None:
    """As ``systemctl kill --signal=USR1`` does it."""
    server = service(PID, "--workers", "2", "--dispatch", dispatch)
    pids = sorted(server.workers())
    for number in MEANT_FOR_THE_SUPERVISOR:
        for pid in pids:
            os.kill(pid, number)
        assert int(server.ask(b"")) in pids
    assert sorted(server.wait_for(ready(2))["workers"][slot]["pid"] for slot in (0, 1)) == pids
    assert all(map(alive, pids))


@DISPATCH
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_told_to_go_is_replaced(
    service: Callable[..., Service], dispatch: str, number: int
) -> None:
    server = service(PID, "--workers", "1", "--dispatch", dispatch)
    (pid,) = server.workers()
    os.kill(pid, number)
    server.wait_for(ready(1, [pid]))
    log = server.stop()
    assert any(f"worker 1 [{pid}] ended with exit code 0" in line for line in log)
    assert not any("ERROR" in line for line in log)


def test_a_worker_opens_its_log_again_when_it_is_told_to(service: Callable[..., Service]) -> None:
    server = service(
        """
import logging
def handle_request(request):
    logging.getLogger("app").warning("asked for %s", request.data.decode())
    return b""
""",
        "--workers",
        "1",
        "--log-file",
        "log",
        "--dispatch",
        "direct",
    )
    log = server.line.directory / "log"
    (pid,) = server.workers()
    log.rename(log.with_suffix(".1"))
    os.kill(pid, signal.SIGUSR1)
    server.wait_for(lambda stats: log.exists())
    server.ask(b"one")
    assert f" worker 1 [{pid}] WARNING app: asked for one\n" in log.read_text()


@WORKERS
def test_a_log_that_cannot_be_opened_again_ends_nothing(
    command_line: CommandLine, service: Callable[..., Service], options: list[str]
) -> None:
    logs = command_line.directory / "logs"
    logs.mkdir()
    server = service(
        "def handle_request(request):\n    return request.data\n",
        "--log-file",
        "logs/log",
        *options,
    )
    with (logs / "log").open() as log:
        shutil.rmtree(logs)
        server.signal(signal.SIGUSR1)
        said = ""
        until = time.monotonic() + LIMIT_SECONDS
        while said.count(
            "cannot be opened again (No such file or directory): going on in the old file"
        ) < 1 + len(options[:1]):
            assert time.monotonic() < until, said
            said += log.read()
        assert server.ask(b"x") == b"x"
        server.stop()
        assert "ended" in log.read() or not options


@WORKERS
def test_signals_do_not_change_how_it_ends(command_line: CommandLine, options: list[str]) -> None:
    """However often, and whenever: also when everything has ended but the interpreter."""
    command_line.write("app.py", PID)
    running = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT, *options)
    running.endpoint()
    until = time.monotonic() + LIMIT_SECONDS
    while running.process.poll() is None:
        assert time.monotonic() < until
        running.process.send_signal(signal.SIGTERM)
        time.sleep(0.001)
    assert running.process.returncode == 0


@DISPATCH
def test_it_ends_while_it_boots(
    command_line: CommandLine, service: Callable[..., Service], dispatch: str
) -> None:
    """At the first signal, whatever the application waits for; the second one changes nothing."""
    command_line.write("wait", "")
    server = service(GATED, "--workers", "2", "--dispatch", dispatch, serves=False)
    pids = [row["pid"] for row in server.wait_for(states("booting", "booting"))["workers"]]
    server.signal(signal.SIGTERM)
    for _ in pids:
        server.running.err.until("was given up and was killed by SIGKILL")
    server.signal(signal.SIGINT)
    assert server.running.ends() == 0
    assert not any(map(alive, pids))
    assert server.running.out.rest() == []


INTERRUPTED = """
import logging, signal, sys
from green_router.processes.supervisor.supervisor import Supervisor

def interrupt(endpoints):
    for number in (signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1, signal.SIGTERM):
        signal.raise_signal(number)
    logging.info("all handlers have returned")

logging.basicConfig(level="INFO", format="%(message)s")
Supervisor("green_router.commands.application:load", {"application": "app:handle_request", "bind": ["tcp://127.0.0.1:0"],
                                                      "workers": 1}, {}, interrupt).run()
"""


def test_a_handler_only_notes(command_line: CommandLine) -> None:
    """What a signal means is done afterwards, and not in the midst of what it interrupts."""
    command_line.write("app.py", PID)
    program = command_line.write("program.py", INTERRUPTED)
    done = subprocess.run(
        [sys.executable, program],
        cwd=command_line.directory,
        env=command_line.env,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = [
        re.split(r":| ignored", line)[0]
        for line in done.stderr.splitlines()
        if line.startswith(("SIG", "all handlers"))
    ]
    assert said == [
        "all handlers have returned",
        "SIGHUP",
        "SIGTTIN",
        "SIGTTOU",
        "SIGUSR1",
        "SIGTERM",
    ]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (signal.SIGHUP, "SIGHUP ignored: it needs --workers"),
        (signal.SIGTTIN, "SIGTTIN ignored: it needs --workers"),
        (signal.SIGTTOU, "SIGTTOU ignored: it needs --workers"),
        (signal.SIGUSR1, "SIGUSR1: opened the log again"),
    ],
)
def test_one_process_says_what_needs_workers(
    service: Callable[..., Service], number: int, words: str
) -> None:
    server = service("def handle_request(request):\n    return request.data\n")
    server.signal(number)
    server.running.err.until(words)
    assert server.ask(b"x") == b"x"
    server.stop()


def test_one_process_tells_systemd_too(command_line: CommandLine) -> None:
    command_line.write("app.py", PID)
    path = command_line.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(LIMIT_SECONDS)
        command_line.env["NOTIFY_SOCKET"] = str(path)
        running = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT)
        assert heard.recv(1000).startswith(b"READY=1\nSTATUS=serving on tcp://127.0.0.1:")
        running.process.terminate()
        assert heard.recv(1000) == b"STOPPING=1"
        assert running.ends() == 0


WAITING = """
import os, gevent
def handle_request(request):
    print("taken", flush=True)
    while not os.path.exists("go on"):
        gevent.sleep(0.01)
    return b"done"
"""


@WORKERS
def test_the_first_signal_says_what_is_waited_for(
    service: Callable[..., Service], options: list[str]
) -> None:
    server = service(WAITING, *options)
    clients = [server.client() for _ in range(2)]
    for client in clients:
        client.send(b"x")
        server.running.out.until("taken")
    if options:
        server.wait_for(lambda stats: stats["sum"]["in_flight"] == 2)
    server.signal(signal.SIGTERM)
    server.running.err.until(
        "SIGTERM: draining, for 30 s at the most: 2 requests in flight; a second signal ends it now"
    )
    server.line.write("go on", "")
    assert [client.recv() for client in clients] == [b"done", b"done"]
    assert server.running.ends() == 0


@WORKERS
def test_one_that_was_ignored_at_the_beginning_stays_ignored(
    service: Callable[..., Service], options: list[str]
) -> None:
    """So a shell starts what a script runs in its background."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        server = service(PID, *options)
    finally:
        signal.signal(signal.SIGINT, before)
    server.signal(signal.SIGINT)
    assert int(server.ask(b""))
    assert not any("SIGINT" in line for line in server.stop())
