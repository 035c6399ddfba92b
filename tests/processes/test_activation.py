"""Sockets that a service manager has opened: served as they are, in one process and with workers,
and left to it."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from command_line import COMMAND, LIMIT_SECONDS, CommandLine

ACTIVATE = str(Path(__file__).parents[1] / "programs" / "activate.py")

APP = "def handle_request(request):\n    return request.data.upper()\n"

Activated = Callable[..., CommandLine]


@pytest.fixture
def activated(command_line: CommandLine) -> Activated:
    """``activated(address, ...)``: a command line whose commands are passed sockets that listen
    there."""

    def make(*addresses: str) -> CommandLine:
        command_line.write("app.py", APP)
        command_line.command = (sys.executable, ACTIVATE, *addresses, "--", *COMMAND)
        return command_line

    return make


def ask(endpoint: str, cwd: Path) -> bytes:
    with zmq.Context() as context, context.socket(zmq.REQ) as client:
        client.linger = 0
        client.setsockopt(zmq.RCVTIMEO, int(1000 * LIMIT_SECONDS))
        client.connect(endpoint.replace("ipc://", f"ipc://{cwd}/"))
        client.send(b"hello")
        return client.recv()


@pytest.mark.parametrize(
    "options",
    [[], ["--workers", "2"], ["--workers", "2", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)
def test_what_was_passed_is_served(activated: Activated, options: list[str]) -> None:
    line = activated("0", "s=local")
    running = line.start(
        "serve", "app:handle_request", "--bind", "fd://3", "--bind", "fd://local", *options
    )
    served = [running.endpoint(), running.endpoint()]
    assert served[0].startswith("tcp://127.0.0.1:")
    assert served[1] == "ipc://s"
    for endpoint in served:
        for _ in range(4):
            assert ask(endpoint, line.directory) == b"HELLO"
    running.process.send_signal(signal.SIGTERM)
    assert running.ends() == 0, running.err.rest()
    assert (line.directory / "s").exists(), "the service manager goes on listening there"


@pytest.mark.parametrize(
    "options",
    [[], ["--workers", "2"], ["--workers", "2", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)
def test_what_was_not_passed_is_an_endpoint_that_cannot_be_served(
    activated: Activated, options: list[str]
) -> None:
    line = activated("0=web")
    done = line.run("serve", "app:handle_request", "--bind", "fd://other", *options)
    assert (done.returncode, done.stdout) == (3, b"")
    assert (
        b"cannot bind fd://other: no descriptor of this name was passed; there are web"
        in done.stderr
    )


def test_a_check_looks_at_what_was_passed(activated: Activated) -> None:
    line = activated("0=web")
    for options in [], ["--workers", "2", "--dispatch", "direct"]:
        done = line.run("serve", "app:handle_request", "--check", "--bind", "fd://web", *options)
        assert (done.returncode, done.stderr) == (0, b"")
        done = line.run(
            "serve",
            "app:handle_request",
            "--check",
            "--bind",
            "fd://0",
            "--bind",
            "fd://3",
            "--bind",
            "fd://web",
            "--bind",
            "fd://",
            *options,
        )
        assert done.returncode == 3
        errors = [text for text in done.stderr.decode().splitlines() if text.startswith("Error")]
        assert [error.partition(": ")[2].partition(":")[0] for error in errors] == [
            "cannot bind fd"
        ] * 3
        assert all(
            words in done.stderr
            for words in (
                b"descriptor 0 is no socket",
                b"fd://3, which is given too",
                b"say which one",
            )
        )


def test_a_check_by_hand_says_what_it_cannot_look_at(command_line: CommandLine) -> None:
    command_line.write("app.py", APP)
    done = command_line.run(
        "serve", "app:handle_request", "--check", "--bind", "fd://3", "--bind", "fd://web"
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode().splitlines()[1:] == [
        f"{endpoint} can be looked at only in the process that it is passed to (LISTEN_FDS)"
        for endpoint in ("fd://3", "fd://web")
    ]


def test_a_worker_has_none_of_what_was_passed(activated: Activated) -> None:
    """In front the serving process alone has it: nothing else keeps the port."""
    line = activated("0")
    line.write(
        "app.py",
        "import os\ndef handle_request(request):\n    return b'%d' % "
        "sum(os.path.realpath(f'/proc/self/fd/{fd}').endswith("
        "request.data.decode()) for fd in os.listdir('/proc/self/fd'))\n",
    )
    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to see descriptors")
    running = line.start("serve", "app:handle_request", "--bind", "fd://3", "--workers", "1")
    endpoint = running.endpoint()
    inode = Path(f"/proc/{running.process.pid}/fd/3").readlink()
    assert str(inode).startswith("socket:")
    with zmq.Context() as context, context.socket(zmq.REQ) as client:
        client.linger = 0
        client.setsockopt(zmq.RCVTIMEO, int(1000 * LIMIT_SECONDS))
        client.connect(endpoint)
        client.send(str(inode).encode())
        assert client.recv() == b"0"
