"""``green-router serve --check``: all that is wrong, at once, and nothing that is not."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine, Running

from green_router import BindError
from green_router.commands import EXITS

pytestmark = pytest.mark.examples

HANDLER = "def handle_request(request):\n    return request.data\n"


def errors(line: CommandLine, *arguments: str) -> list[str]:
    """The errors that it shows."""
    done = line.run("serve", "--check", *arguments)
    assert done.returncode in EXITS.values()
    assert done.stdout == b""
    return [
        text.removeprefix("Error: ")
        for text in done.stderr.decode().splitlines()
        if text.startswith("Error: ")
    ]


def test_nothing_is_wrong(command_line: CommandLine) -> None:
    command_line.write("app.py", HANDLER)
    for options in (
        [],
        ["--workers", "2"],
        ["--workers", "2", "--dispatch", "direct", "--log-file", "log", "--control", "control"],
    ):
        done = command_line.run("serve", "app:handle_request", "--check", *options)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"nothing is wrong with app:handle_request")
    assert sorted(path.name for path in command_line.directory.iterdir()) == ["app.py"], (
        "and nothing is left"
    )


def test_everything_is(command_line: CommandLine) -> None:
    command_line.write("app.py", "x = 1")
    command_line.write("service.toml", "workers = 0\nworker_windows = 5\n")
    command_line.env["GREEN_ROUTER_GRACE"] = "long"
    found = errors(
        command_line,
        "app:handle_request",
        "--config",
        "service.toml",
        "--bind",
        "ipc:///no/such/directory/s",
        "--bind",
        "tcp://192.0.2.1:5555",
        "--max-in-flight",
        "none",
        "--on-error",
        "app:sorry",
        "--log-file",
        "none/log",
        "--control",
        "none/control",
    )
    assert len(found) == 10
    for words in (
        "service.toml: workers = 0: must be an integer from 1 to 1,024",
        "did you mean worker_window?",
        "GREEN_ROUTER_GRACE = 'long': must be a number of seconds",
        "--max-in-flight = 'none'",
        "cannot bind ipc:///no/such/directory/s",
        "cannot bind tcp://192.0.2.1:5555: this machine has no such address",
        "app has no attribute handle_request",
        "app has no attribute sorry",
        "log_file = 'none/log': must be a file that can be written (No such file or directory)",
        "control = 'none/control': must be a path where a socket can be made",
    ):
        assert any(words in text for text in found), words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--grace", "x"], ["--grace = 'x'", "MODULE:CALLABLE = None: must be given"]),
        (
            ["--config", "five.toml", "--grace", "x"],
            ["five.toml: application = 5: must be a text", "--grace = 'x'"],
        ),
        (
            ["--config", "none.toml", "--grace", "x"],
            ["--config = 'none.toml': must be a file that can be read", "--grace = 'x'"],
        ),
        (
            ["app:handle_request", "--heartbeat-interval", "5", "--bind", "tcp://127.0.0.1:many"],
            [
                "duplicate_routing_id = 'handover': must be reject where heartbeat_interval is set",
                "cannot bind tcp://127.0.0.1:many",
            ],
        ),
        (
            ["app:handle_request", "--bind", "", "--grace", "x"],
            ["--bind = '': must be a list of texts", "--grace = 'x'"],
        ),
        (
            [
                "app:handle_request",
                "--dispatch",
                "direct",
                "--workers",
                "2",
                "--bind",
                "inproc://x",
                "--bind",
                "ipc://*",
            ],
            [
                "cannot bind inproc://x: workers that serve clients themselves need",
                "cannot bind ipc://*: workers that serve",
            ],
        ),
    ],
)
def test_one_error_hides_no_other(
    command_line: CommandLine, arguments: list[str], words: list[str]
) -> None:
    command_line.write("app.py", HANDLER)
    command_line.write("five.toml", "application = 5\n")
    found = errors(command_line, *arguments)
    assert len(found) == len(words)
    for text in words:
        assert any(text in error for error in found), found


DISPATCH = pytest.mark.parametrize(
    "dispatch", [(), ("--reload", "--dispatch", "direct")], ids=["front", "direct"]
)

REFUSED = [
    "tcp://127.0.0.1:many",
    "tcp://127.0.0.1:70000",
    "tcp://127.0.0.1",
    "tcp://:5555",
    "tcp://a..b:1",
    "tcp://192.0.2.1:5555",
    "ipc://",
    "ipc://no/such/directory",
    "ipc://app.py",
    "ipc://app.py/s",
    "nonsense",
]


@DISPATCH
def test_what_serve_refuses_is_wrong(command_line: CommandLine, dispatch: tuple[str, ...]) -> None:
    """And shown as it was written."""
    command_line.write("app.py", HANDLER)
    found = errors(
        command_line, "app:handle_request", *dispatch, *(f"--bind={one}" for one in REFUSED)
    )
    assert len(found) == len(REFUSED)
    for endpoint in REFUSED:
        (error,) = (error for error in found if error.startswith(f"cannot bind {endpoint}: "))
        done = command_line.run("serve", "app:handle_request", *dispatch, "--bind", endpoint)
        assert done.returncode == EXITS[BindError]
        assert f"Error: {error}\n" in done.stderr.decode(), "in the same words"


@DISPATCH
def test_what_is_no_port_is_wrong(command_line: CommandLine, dispatch: tuple[str, ...]) -> None:
    command_line.write("app.py", HANDLER)
    ports = ["70000", "65536", "-1", "5570-5571", "5555 "]
    found = errors(
        command_line,
        "app:handle_request",
        *dispatch,
        *(f"--bind=tcp://127.0.0.1:{port}" for port in ports),
    )
    assert {*found} == {
        f"cannot bind tcp://127.0.0.1:{port}: {port!r} is no port; write a number from 1 to "
        "65535, or * for any port"
        for port in ports
    }


@DISPATCH
def test_a_port_that_one_may_not_have_is_wrong(
    command_line: CommandLine, dispatch: tuple[str, ...]
) -> None:
    first = Path("/proc/sys/net/ipv4/ip_unprivileged_port_start")
    if not first.exists() or int(first.read_text()) < 2:
        pytest.skip("every port is everybody's here")
    command_line.write("app.py", HANDLER)
    command_line.command = (sys.executable, "-c", UNPRIVILEGED, *command_line.command)
    (error,) = errors(command_line, "app:handle_request", *dispatch, "--bind", "tcp://127.0.0.1:1")
    assert error.startswith(
        "cannot bind tcp://127.0.0.1:1: permission denied; choose a port above 1023"
    )


UNPRIVILEGED = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE = 24, 10
ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_BIND_SERVICE, 0, 0, 0)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""Whoever runs it, what it runs may not bind a port below 1024: root loses the right to it by
exec."""


@DISPATCH
@pytest.mark.parametrize(
    ("first", "second", "words"),
    [
        ("tcp://127.0.0.1:{}", "tcp://127.0.0.1:{}", "it is given twice; leave one out"),
        (
            "tcp://lo:{}",
            "tcp://*:{}",
            "tcp://lo:{}, which is given too, has the same place; leave one out",
        ),
        ("ipc://s", "ipc://s", "it is given twice; leave one out"),
        (
            "ipc://s",
            "ipc://{here}/s",
            "ipc://s, which is given too, has the same place; leave one out",
        ),
    ],
)
def test_an_endpoint_that_is_given_twice_is_wrong(
    command_line: CommandLine, dispatch: tuple[str, ...], first: str, second: str, words: str
) -> None:
    command_line.write("app.py", HANDLER)
    with socket.create_server(("127.0.0.1", 0)) as server:  # also where a service runs already
        port = server.getsockname()[1]
        first, second, words = (
            text.format(port, here=command_line.directory) for text in (first, second, words)
        )
        found = errors(
            command_line, "app:handle_request", *dispatch, "--bind", first, "--bind", second
        )
    assert found == [f"cannot bind {second}: {words}"]


def test_a_name_in_this_process_that_is_given_twice_is_wrong(command_line: CommandLine) -> None:
    command_line.write("app.py", HANDLER)
    (error,) = errors(
        command_line, "app:handle_request", "--bind", "inproc://x", "--bind", "inproc://x"
    )
    assert error.startswith("cannot bind inproc://x: the address is in use")


@pytest.mark.parametrize("options", [["--workers", "1"], ["--reload"]])
def test_workers_make_the_difference(command_line: CommandLine, options: list[str]) -> None:
    """Whether ``direct`` means something."""
    command_line.write("app.py", HANDLER)
    arguments = ("app:handle_request", "--dispatch", "direct", "--bind", "inproc://x")
    assert command_line.run("serve", "--check", *arguments).returncode == 0
    (error,) = errors(command_line, *arguments, *options)
    assert "workers that serve clients themselves need" in error
    done = command_line.run("serve", "--check", "app:handle_request", *options)
    assert b", 1 worker, " in done.stdout


@DISPATCH
def test_nothing_is_left(command_line: CommandLine, dispatch: tuple[str, ...]) -> None:
    """Nor is what was left by somebody else taken away."""
    command_line.write("app.py", HANDLER)
    here = command_line.directory
    command_line.env["TMPDIR"] = str(here)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(here / "dead"))
    before = {path.name: path.stat().st_ino for path in here.iterdir()}
    endpoints = [
        "tcp://127.0.0.1:0",
        "ipc://s",
        "ipc://dead",
        f"ipc://@{here}",
        *([] if dispatch else ["ipc://*"]),
    ]
    done = command_line.run(
        "serve", "app:handle_request", "--check", *dispatch, *(f"--bind={one}" for one in endpoints)
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert {path.name: path.stat().st_ino for path in here.iterdir()} == before


@DISPATCH
def test_a_port_that_nobody_serves_but_somebody_has_is_wrong(
    command_line: CommandLine, dispatch: tuple[str, ...]
) -> None:
    command_line.write("app.py", HANDLER)
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        endpoint = f"tcp://127.0.0.1:{bound.getsockname()[1]}"
        (error,) = errors(command_line, "app:handle_request", *dispatch, "--bind", endpoint)
    assert error.startswith(f"cannot bind {endpoint}: the address is in use")


@pytest.fixture(params=["front", "direct"])
def running(command_line: CommandLine, request: pytest.FixtureRequest) -> Iterator[Running]:
    """A service that runs already, on a port, a path and a name, with a control socket and a
    log."""
    command_line.write("app.py", HANDLER)
    command_line.write(
        "service.toml",
        f"""
application = "app:handle_request"
bind = ["tcp://127.0.0.1:0", "ipc://{command_line.directory}/s", "ipc://@{command_line.directory}"]
workers = 1
dispatch = "{request.param}"
control = "control"
log_file = "log"
""",
    )
    running = command_line.start("serve", "--config", "service.toml")
    yield running
    running.process.terminate()
    assert running.ends() == 0


@DISPATCH
def test_a_service_that_runs_is_no_error(
    command_line: CommandLine, running: Running, dispatch: tuple[str, ...]
) -> None:
    """And takes no harm: who is connected is served, and who comes."""
    endpoints = [running.endpoint() for _ in range(3)]
    path = command_line.directory / "s"
    inode = path.stat().st_ino
    with zmq.Context() as context, ExitStack() as clients:

        def ask(endpoint: str) -> zmq.Socket[bytes]:
            client = clients.enter_context(context.socket(zmq.REQ))
            client.linger = 0
            client.setsockopt(zmq.RCVTIMEO, int(1000 * LIMIT_SECONDS))
            client.connect(endpoint)
            return again(client)

        def again(client: zmq.Socket[bytes]) -> zmq.Socket[bytes]:
            client.send(b"hello")
            assert client.recv() == b"hello"
            return client

        connected = [ask(endpoint) for endpoint in endpoints]
        done = command_line.run(
            "serve",
            "--config",
            "service.toml",
            "--check",
            *dispatch,
            *(f"--bind={one}" for one in endpoints),
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.decode().splitlines()[1:] == [
            f"{one} is in use now, by the service that runs already or by another one"
            for one in endpoints
        ]
        assert path.stat().st_ino == inode
        for client in connected:
            again(client)
        for endpoint in endpoints:
            ask(endpoint)
    assert command_line.run("stats", "control").returncode == 0
