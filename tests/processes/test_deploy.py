"""examples/deploy: the systemd unit, run as systemd would, and what its times promise."""

from __future__ import annotations

import configparser
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine

from green_router.settings import Settings

DEPLOY = Path(__file__).parents[2] / "examples" / "deploy"


def unit() -> dict[str, list[str]]:
    """The unit's settings, all values of each."""
    found: dict[str, list[str]] = {}
    for line in (DEPLOY / "green-router.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


@pytest.fixture
def deployed(command_line: CommandLine) -> CommandLine:
    """The files of the directory, where the unit's WorkingDirectory would be."""
    for path in DEPLOY.iterdir():
        if path.is_file():
            shutil.copy(path, command_line.directory)
    command_line.write("app.py", "def handle_request(request):\n    return request.data.upper()\n")
    for setting in unit()["Environment"]:
        name, _, value = setting.partition("=")
        command_line.env[name] = value.replace("/run/green-router", str(command_line.directory))
    return command_line


def arguments(command: str) -> list[str]:
    """What comes after the program."""
    return command.split()[1:]


def test_it_runs_as_systemd_runs_it(deployed: CommandLine) -> None:
    settings = unit()
    path = deployed.directory / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as heard:
        heard.bind(str(path))
        heard.settimeout(LIMIT_SECONDS)
        deployed.env["NOTIFY_SOCKET"] = str(path)
        (start,) = settings["ExecStart"]
        done = deployed.run(*arguments(start), "--bind", "tcp://127.0.0.1:0", "--check")
        assert (done.returncode, done.stderr) == (0, b"")
        running = deployed.start(*arguments(start), "--bind", "tcp://127.0.0.1:0")
        assert heard.recv(1000).startswith(b"READY=1")
        with zmq.Context() as context, context.socket(zmq.REQ) as client:
            client.linger = 0
            client.setsockopt(zmq.RCVTIMEO, int(1000 * LIMIT_SECONDS))
            client.connect(running.endpoint())
            client.send(b"hello")
            assert client.recv() == b"HELLO"
        assert deployed.run("stats", deployed.env["GREEN_ROUTER_CONTROL"]).returncode == 0
        (reload,) = settings["ExecReload"]
        running.process.send_signal(getattr(signal, f"SIG{reload.split()[1][1:]}"))
        assert heard.recv(1000).startswith(b"RELOADING=1")
        assert heard.recv(1000).startswith(b"READY=1")
        running.process.terminate()
        assert heard.recv(1000).startswith(b"STOPPING=1")
        assert running.ends() == 0


def test_it_gets_the_time_that_it_needs(deployed: CommandLine) -> None:
    grace = next(
        float(line.split("=")[1])
        for line in (DEPLOY / "service.toml").read_text().splitlines()
        if line.startswith("grace")
    )
    assert float(unit()["TimeoutStopSec"][0]) >= grace + 10
    assert unit()["KillMode"] == ["mixed"]


def test_its_socket_has_the_address_and_the_queue_of_the_settings() -> None:
    """So that who adds the unit changes nothing for clients."""
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.read_string((DEPLOY / "green-router.socket").read_text())
    assert (
        f'bind = ["tcp://{unit["Socket"]["ListenStream"]}"]'
        in (DEPLOY / "service.toml").read_text().splitlines()
    )
    assert unit["Socket"]["Backlog"] == str(Settings().backlog)


def test_systemd_understands_it(tmp_path: Path) -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(
        (DEPLOY / "green-router.service").read_text()
    )
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("there is no systemd-analyze on this machine")
    text = (
        (DEPLOY / "green-router.service")
        .read_text()
        .replace("/srv/app/venv/bin/green-router", "/bin/true")
    )
    path = tmp_path / "green-router.service"
    path.write_text(text.replace("/srv/app", str(tmp_path)))
    socket_path = shutil.copy(DEPLOY / "green-router.socket", tmp_path)
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(path), str(socket_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert "green-router." not in done.stderr, done.stderr
