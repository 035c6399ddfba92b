"""``green-router serve``: what it loads, what it prints, how it ends, and with which exit code."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine

from green_router.sockets.frames import IN_USE

UPPER = """
def handle_request(request):
    client_id, data = request
    return client_id, data.upper()
"""

ANY_PORT = "tcp://127.0.0.1:*"


@contextmanager
def client(endpoint: str) -> Iterator[zmq.Socket[bytes]]:
    """A REQ client."""
    with zmq.Context() as context, context.socket(zmq.REQ) as req:
        req.linger = 0
        req.setsockopt(zmq.RCVTIMEO, int(1000 * LIMIT_SECONDS))
        req.connect(endpoint)
        yield req


def ask(endpoint: str, data: bytes) -> bytes:
    """Send one request and return its reply."""
    with client(endpoint) as req:
        req.send(data)
        return req.recv()


@pytest.mark.parametrize(
    "target", ["app:handle_request", "app.py:handle_request", "{here}/app.py:handle_request"]
)
def test_serves(command_line: CommandLine, target: str) -> None:
    command_line.write("app.py", UPPER)
    server = command_line.start(
        "serve", target.format(here=command_line.directory), "--bind", ANY_PORT
    )
    assert ask(server.endpoint(), b"hello") == b"HELLO"
    server.process.terminate()
    assert server.ends() == 0
    assert server.out.rest() == server.out.lines[:1]


def test_says_where_it_serves(command_line: CommandLine) -> None:
    command_line.write("app.py", UPPER)
    ipc = f"ipc://{command_line.directory}/s"
    server = command_line.start(
        "serve", "app:handle_request", "-b", ANY_PORT, "-b", "tcp://127.0.0.1:0", "-b", ipc
    )
    endpoints = [server.endpoint() for _ in range(3)]
    assert [endpoint.startswith("tcp://127.0.0.1:") for endpoint in endpoints] == [
        True,
        True,
        False,
    ]
    assert endpoints[2] == ipc
    assert len({*endpoints}) == 3
    for endpoint in endpoints:
        assert ask(endpoint, b"hello") == b"HELLO"
    assert server.out.lines[0] == f"green-router serving on {endpoints[0]}"


def test_until_ready_asks_again(command_line: CommandLine) -> None:
    command_line.write(
        "app.py",
        """
asked = {}

def handle_request(request):
    client_id, data = request
    asked[client_id] = asked.get(client_id, 0) + 1
    return (client_id, b"%d" % asked[client_id]) if asked[client_id] == 3 else None
""",
    )
    server = command_line.start("serve", "app:handle_request", "--until-ready", "--bind", ANY_PORT)
    assert ask(server.endpoint(), b"") == b"3"


PATCHED = """
import socket, ssl, subprocess, threading, time
from gevent.monkey import is_module_patched

names = "socket", "ssl", "subprocess", "threading", "time"
at_import = [is_module_patched(name) for name in names]

def handle_request(request):
    return repr(at_import).encode()
"""


@pytest.mark.parametrize(("options", "patched"), [([], True), (["--no-patch"], False)])
def test_patches_before_it_loads(
    command_line: CommandLine, options: list[str], patched: bool
) -> None:
    command_line.write("app.py", PATCHED)
    server = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT, *options)
    assert ask(server.endpoint(), b"") == repr([patched] * 5).encode()
    server.process.terminate()
    assert server.ends() == 0
    assert not any("Warning" in line for line in server.err.rest())


def test_a_handler_that_waits_lets_others_run(command_line: CommandLine) -> None:
    command_line.write(
        "app.py",
        """
import threading
go = threading.Event()

def handle_request(request):
    if request.data == b"wait":
        go.wait()
    go.set()
    return request.data
""",
    )
    server = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT)
    endpoint = server.endpoint()
    with client(endpoint) as waits:
        waits.send(b"wait")
        assert ask(endpoint, b"go") == b"go"
        assert waits.recv() == b"wait"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_it_finish(command_line: CommandLine, number: signal.Signals) -> None:
    command_line.write(
        "app.py",
        """
import os
from gevent.threadpool import ThreadPool

def handle_request(request):
    print("taken", flush=True)
    return ThreadPool(1).apply(wait, [request.data])

def wait(path):
    with open(path, "rb") as fifo:
        return fifo.read()
""",
    )
    fifo = command_line.directory / "reply"
    os.mkfifo(fifo)
    server = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT)
    with client(server.endpoint()) as req:
        req.send(os.fsencode(fifo))
        server.out.until("taken")
        server.process.send_signal(number)
        server.err.until("draining")
        fifo.write_bytes(b"finished")
        assert req.recv() == b"finished"
    assert server.ends() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(command_line: CommandLine, number: signal.Signals) -> None:
    command_line.write(
        "app.py",
        """
import threading

def handle_request(request):
    print("taken", flush=True)
    threading.Event().wait()
""",
    )
    server = command_line.start(
        "serve", "app:handle_request", "--bind", ANY_PORT, "--grace", "3600"
    )
    with client(server.endpoint()) as req:
        req.send(b"")
        server.out.until("taken")
        server.process.send_signal(number)
        server.err.until("draining")
        server.process.send_signal(number)
        server.ends()


def test_grace_bounds_the_end(command_line: CommandLine) -> None:
    command_line.write(
        "app.py",
        """
import threading

def handle_request(request):
    print("taken", flush=True)
    threading.Event().wait()
""",
    )
    server = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT, "--grace", "0.1")
    with client(server.endpoint()) as req:
        req.send(b"")
        server.out.until("taken")
        server.process.terminate()
        assert server.ends() == 0
    assert any("abandoned 1 request" in line for line in server.err.rest())


def test_a_signal_may_come_as_soon_as_it_serves(command_line: CommandLine) -> None:
    command_line.write("app.py", UPPER)
    server = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT)
    server.endpoint()
    server.process.terminate()
    assert server.ends() == 0


def test_a_signal_that_another_thread_took_is_noticed(command_line: CommandLine) -> None:
    """The system may give a signal to any thread; then it ends no wait of the main one."""
    command_line.write(
        "app.py",
        """
import signal
from gevent.monkey import get_original

def take_one(path):
    with open(path, "rb") as fifo:
        fifo.read()
    signal.pthread_kill(get_original("threading", "get_ident")(), signal.SIGTERM)

def handle_request(request):
    get_original("_thread", "start_new_thread")(take_one, (request.data,))
    return b"started"
""",
    )
    fifo = command_line.directory / "go"
    os.mkfifo(fifo)
    server = command_line.start("serve", "app:handle_request", "--bind", ANY_PORT)
    assert ask(server.endpoint(), os.fsencode(fifo)) == b"started"
    fifo.write_bytes(b"go")
    server.err.until("draining")
    assert server.ends() == 0


def test_settings_reach_the_server(command_line: CommandLine) -> None:
    command_line.write(
        "app.py",
        """
import threading

def handle_request(request):
    threading.Event().wait()

def too_late(request, error):
    return type(error).__name__.encode()
""",
    )
    server = command_line.start(
        "serve",
        "app:handle_request",
        "--bind",
        ANY_PORT,
        "--handler-timeout",
        "0.05",
        "--on-error",
        "app:too_late",
        "--envelope",
        "delimiter",
        "--max-message-bytes",
        "1KiB",
    )
    assert ask(server.endpoint(), b"") == b"HandlerTimeout"


@pytest.mark.parametrize(("level", "logged"), [("info", True), ("WARNING", False)])
def test_logs_to_standard_error(command_line: CommandLine, level: str, logged: bool) -> None:
    command_line.write(
        "app.py", "import logging\nlogging.getLogger('app').info('loading')\n" + UPPER
    )
    server = command_line.start(
        "serve", "app:handle_request", "--bind", ANY_PORT, "--log-level", level
    )
    server.endpoint()
    server.process.terminate()
    assert server.ends() == 0
    lines = server.err.rest()
    assert any("INFO app: loading" in line for line in lines) is logged
    assert any("INFO green_router.server: " in line for line in lines) is logged


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (
            ["app:handle_request", "--grace", "-1"],
            2,
            "Invalid value for '--grace' / '--graceful-timeout': '-1' must be a number of seconds",
        ),
        (
            ["app:handle_request", "--max-in-flight", "many"],
            2,
            "'many' must be an integer, 1 or more",
        ),
        (["app:handle_request", "--envelope", "first"], 2, "'first' must be delimiter, bare"),
        (
            ["app:handle_request", "--log-level", "loud"],
            2,
            "Invalid value for '--log-level': 'loud'",
        ),
        (["app:handle_request", "--no-such-option"], 2, "No such option"),
        ([], 2, "Missing argument 'MODULE:CALLABLE'"),
        (["app:handle_request", "--bind", "tcp://127.0.0.1"], 3, "cannot bind tcp://127.0.0.1: "),
        (
            ["app:handle_request", "--bind", "http://127.0.0.1:1"],
            3,
            "cannot bind http://127.0.0.1:1: ",
        ),
        (
            ["app:handle_request", "--bind", "ipc:///no/such/directory/s"],
            3,
            "cannot bind ipc:///no/such/directory/s: ",
        ),
        (["ap:handle_request"], 4, "there is no module ap, neither in "),
        (["broken:handle_request"], 4, "broken was found, but is broken inside:\n\nTraceback"),
        (
            ["app:handel_request"],
            4,
            "app has no attribute handel_request; did you mean handle_request?",
        ),
        (["app:number"], 4, "app:number is not callable: it is an int"),
        (["app.py"], 4, "'app.py' does not name a callable"),
        (["app:handle_request", "--on-error", "app:nothing"], 4, "app has no attribute nothing"),
    ],
)
def test_exit_codes(command_line: CommandLine, arguments: list[str], code: int, words: str) -> None:
    command_line.write("app.py", UPPER + "number = 7\n")
    command_line.write(
        "broken.py", "def connect():\n    raise RuntimeError('no database')\nconnect()\n"
    )
    done = command_line.run("serve", "--bind", ANY_PORT, *arguments)
    assert words in done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    if code != 4 or "broken" not in arguments[0]:
        assert "Traceback" not in done.stderr.decode()


def test_a_port_in_use(command_line: CommandLine) -> None:
    command_line.write("app.py", UPPER)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        endpoint = f"tcp://127.0.0.1:{taken.getsockname()[1]}"
        done = command_line.run("serve", "app:handle_request", "--bind", endpoint)
    assert (done.returncode, done.stdout) == (3, b"")
    assert done.stderr.decode().splitlines()[-1].startswith(f"Error: cannot bind {endpoint}: ")


def test_help_and_version(command_line: CommandLine) -> None:
    for arguments in (["--help"], ["serve", "--help"], ["request", "-h"], ["demo", "-h"]):
        done = command_line.run(*arguments)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"Usage: green-router")
    done = command_line.run("--version")
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == [
        "green_router",
        "pyzmq",
        "libzmq",
        "gevent",
        "Python",
        "frames",
    ]
    assert done.stdout.decode().splitlines()[-1].split(maxsplit=1)[1] == IN_USE
    command_line.env["GREEN_ROUTER_PURE"] = "1"
    assert (
        command_line.run("--version")
        .stdout.decode()
        .endswith("frames       pure (GREEN_ROUTER_PURE)\n")
    )


def test_help_imports_nothing_that_draws(command_line: CommandLine) -> None:
    command_line.env["PYTHONPROFILEIMPORTTIME"] = "1"
    imported = {
        line.rpartition("|")[2].strip()
        for line in command_line.run("--help").stderr.decode().splitlines()
    }
    assert "click" in imported
    assert not imported & {
        "rich",
        "rich.console",
        "matplotlib",
        "concurrent.futures.thread",
        "asyncio",
    }


def test_the_console_script(command_line: CommandLine) -> None:
    script = Path(sys.executable).with_name("green-router")
    if not script.exists():
        pytest.skip("green_router is not installed in this environment")
    done = subprocess.run(
        [script, "--version"], capture_output=True, timeout=LIMIT_SECONDS, check=True
    )
    assert done.stdout == command_line.run("--version").stdout
