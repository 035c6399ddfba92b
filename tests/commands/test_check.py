"""``green-router serve --check``: all that is wrong, at once, and nothing that is not."""
from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine, Running

from green_router.commands import EXITS

HANDLER = "def handle_request(request):\n    return request.data\n"


def errors(line: CommandLine, *arguments: str) -> list[str]:
    """The errors that it shows."""
    done = line.run("serve", "--check", *arguments)
    assert done.returncode in EXITS.values()
    assert done.stdout == b""
    return [text.removeprefix("Error: ") for text in done.stderr.decode().splitlines() if text.startswith("Error: ")]


def test_nothing_is_wrong(command_line: CommandLine) -> None:
    command_line.write("app.py", HANDLER)
    for options in ([], ["--workers", "2"], ["--workers", "2", "--dispatch", "direct", "--log-file", "log", "--control", "control"]):
        done = command_line.run("serve", "app:handle_request", "--check", *options)
        assert (done.returncode, done.stderr) == (0, b"")
        assert done.stdout.startswith(b"nothing is wrong with app:handle_request")
    assert sorted(path.name for path in command_line.directory.iterdir()) == ["app.py"], "and nothing is left"


def test_everything_is(command_line: CommandLine) -> None:
    command_line.write("app.py", "x = 1")
    command_line.write("service.toml", "workers = 0\nworker_windows = 5\n")
    command_line.env["GREEN_ROUTER_GRACE"] = "long"
    found = errors(command_line, "app:handle_request", "--config", "service.toml", "--bind", "ipc:///no/such/directory/s",
                   "--bind", "tcp://192.0.2.1:5555", "--max-in-flight", "none", "--on-error", "app:sorry",
                   "--log-file", "none/log", "--control", "none/control")
    assert len(found) == 10
    for words in ("service.toml: workers = 0: must be an integer from 1 to 1,024", "did you mean worker_window?",
                  "GREEN_ROUTER_GRACE = 'long': must be a number of seconds", "--max-in-flight = 'none'",
                  "cannot bind ipc:///no/such/directory/s", "cannot bind tcp://192.0.2.1:0",
                  "app has no attribute handle_request", "app has no attribute sorry",
                  "log_file = 'none/log': must be a file that can be written (No such file or directory)",
                  "control = 'none/control': must be a path where a socket can be made"):
        assert any(words in text for text in found), words


@pytest.mark.parametrize(("arguments", "words"), [
    (["--grace", "x"], ["--grace = 'x'", "MODULE:CALLABLE = None: must be given"]),
    (["app:handle_request", "--bind", "", "--grace", "x"], ["--bind = '': must be a list of texts", "--grace = 'x'"]),
    (["app:handle_request", "--dispatch", "direct", "--workers", "2", "--bind", "inproc://x", "--bind", "ipc://*"],
     ["cannot bind inproc://x: workers that serve clients themselves need", "cannot bind ipc://*: workers that serve"]),
])
def test_one_error_hides_no_other(command_line: CommandLine, arguments: list[str], words: list[str]) -> None:
    command_line.write("app.py", HANDLER)
    found = errors(command_line, *arguments)
    assert len(found) == len(words)
    for text in words:
        assert any(text in error for error in found), found


@pytest.fixture
def running(command_line: CommandLine) -> Iterator[Running]:
    """A service that runs already, on a path and a port, with a control socket and a log."""
    command_line.write("app.py", HANDLER)
    command_line.write("service.toml", f"""
application = "app:handle_request"
bind = ["ipc://{command_line.directory}/s", "ipc://@green-router-{command_line.directory.name}-{id(command_line)}"]
workers = 1
control = "control"
log_file = "log"
""")
    running = command_line.start("serve", "--config", "service.toml")
    running.endpoint()
    running.endpoint()
    yield running
    running.process.terminate()
    assert running.ends() == 0


@pytest.mark.parametrize("dispatch", ["front", "direct"])
def test_a_service_that_runs_is_no_error(command_line: CommandLine, running: Running, dispatch: str) -> None:
    """And takes no harm."""
    done = command_line.run("serve", "--config", "service.toml", "--check", "--dispatch", dispatch)
    assert (done.returncode, done.stderr) == (0, b"")
    path = command_line.directory / "s"
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    assert command_line.run("stats", str(Path("control"))).returncode == 0
