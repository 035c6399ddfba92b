"""Clients that do not wait for long: lazy pirates, far more of them than the server has places."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zmq
from command_line import CommandLine
from processes_apart import sized, until

from green_router.processes.control import ask
from green_router.testing import PATIENCE

HANDLER_SECONDS, CLIENT_PATIENCE = 1.0, 0.1

APPLICATION = f"""
import gevent, os, time
begun = os.open(f"begun.{{os.getpid()}}", os.O_WRONLY | os.O_CREAT)

def handle_request(request):
    if request.data == b"healthy":
        return b"well"
    os.write(begun, b"%s %f\\n" % (request.data, time.monotonic()))
    gevent.sleep({HANDLER_SECONDS})
    return request.data
"""


@pytest.fixture
def command_line(tmp_path: Path) -> Iterator[CommandLine]:
    line = CommandLine(tmp_path)
    yield line
    line.close()


def begun_in(directory: Path) -> dict[str, float]:
    """When the handler began with each request."""
    lines = [line for path in directory.glob("begun.*") for line in path.read_text().splitlines()]
    return {number: float(at) for number, _, at in (line.partition(" ") for line in lines)}


@pytest.mark.parametrize("how", ["one process", "front"])
@pytest.mark.parametrize("overload", ["pause", "refuse"])
def test_lazy_pirates(
    scene: Any, measured: Any, command_line: CommandLine, how: str, overload: str
) -> None:
    """A healthy client is answered all along, and no handler begins for a client that is gone."""
    pirates, places = sized(200, 1000), sized(20, 100)
    control = str(command_line.directory / "control")
    workers = ["--workers", "2", "--dispatch", "front", "--control", control]
    command_line.write("app.py", APPLICATION)
    server = command_line.start(
        "serve",
        "app:handle_request",
        "--bind",
        "tcp://127.0.0.1:0",
        "--max-in-flight",
        str(places),
        "--overload",
        overload,
        "--busy-reply",
        "busy",
        *(workers if how == "front" else []),
    )
    endpoint = server.endpoint()
    healthy = scene.client(endpoint, zmq.REQ)
    gang = scene.program("lazy_pirates.py", endpoint, pirates, CLIENT_PATIENCE)
    assert gang.line() == "ready"
    directory = command_line.directory
    until(lambda: len(begun_in(directory)) >= places)
    times, replies, end = [], set(), time.monotonic() + sized(5, 30)
    while time.monotonic() < end:
        asked = time.monotonic()
        healthy.send(b"healthy")
        replies.add(healthy.recv())
        times.append(time.monotonic() - asked)
        time.sleep(0.01)
    told = gang.ask("end")
    begun = begun_in(directory)
    late = {
        number: begun[number] - at for number, at in told["given up"].items() if number in begun
    }
    worst = max(late.values(), default=0.0)
    measured(
        f"{how}, {overload}: {pirates} lazy pirates, {places} places",
        f"{len(told['given up'])} gave up, {len(begun)} handlers began, the latest {worst:.2f} s "
        f"after its client had gone; a healthy client was answered {len(times)} times, the slowest "
        f"after {max(times):.2f} s",
    )
    assert worst < 0.25 * PATIENCE  # until the kernel and libzmq have told the server
    assert max(times) < 2 * (HANDLER_SECONDS + CLIENT_PATIENCE) * PATIENCE
    if overload == "pause":
        assert replies == {b"well"}
    if how == "front":
        stats = until(lambda: at_rest(control))
        assert (stats["fates"]["refused"] > 0) == (overload == "refuse")


def at_rest(control: str) -> dict[str, Any] | None:
    stats: dict[str, Any] = ask(control, "stats")["sum"]
    assert stats["received"] == (
        sum(stats["fates"].values()) + stats["in_flight"] + stats["waiting"]
    )
    return None if stats["in_flight"] + stats["waiting"] else stats
