"""What the tests of services with workers share: a service in processes of its own, and its
clients."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from signal import SIGTERM
from typing import Any

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine, Running
from processes_apart import until

from green_router.processes.control import ask
from green_router.testing import PATIENCE

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"

ANY_PORT = "tcp://127.0.0.1:0"


DISPATCH = pytest.mark.parametrize("dispatch", ["front", "direct"])

PID = """
import os
def handle_request(request):
    return b"%d" % os.getpid()
"""
"""An application that tells who serves."""

GATED = (
    """
import os, sys, time
while os.path.exists("wait") or os.path.exists("wait for " + sys.argv[-1]):
    time.sleep(0.01)
"""
    + PID
)
"""The same, which does not boot as long as there is a file ``wait``, or ``wait for slot=2``."""


class Service:
    """A service that runs, and a context for its clients."""

    def __init__(self, line: CommandLine, running: Running, context: zmq.Context[Any]) -> None:
        self.line, self.running, self.context = line, running, context
        self.pid = running.process.pid
        self.endpoint = ""
        self.clients: list[zmq.Socket[bytes]] = []

    def serves(self) -> None:
        """Wait until it does."""
        self.endpoint = self.running.endpoint()

    @property
    def port(self) -> int:
        """Where it serves, of TCP."""
        return int(self.endpoint.rpartition(":")[2])

    def client(self, kind: int = zmq.REQ, endpoint: str | None = None) -> zmq.Socket[bytes]:
        """A client, connected; closed with the service."""
        client = self.context.socket(kind)
        client.linger = 0
        client.setsockopt(zmq.RCVTIMEO, int(1000 * LIMIT_SECONDS))
        client.connect(endpoint or self.endpoint)
        self.clients.append(client)
        return client

    def ask(self, *frames: bytes) -> bytes:
        """One request of a new client, and its reply."""
        client = self.client()
        client.send_multipart(frames)
        reply = client.recv()
        client.close()
        return reply

    def stats(self) -> dict[str, Any]:
        """What its supervisor tells."""
        path = self.line.directory / "green-router" / f"{self.pid}.sock"
        answer: dict[str, Any] = ask(str(path), "stats")
        return answer

    def workers(self) -> list[int]:
        """The pids of the workers that are ready."""
        return [row["pid"] for row in self.stats()["workers"] if row["state"] == "ready"]

    def wait_for(self, condition: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Ask for statistics until they fit."""
        end = time.monotonic() + LIMIT_SECONDS
        while True:
            stats = self.stats()
            if condition(stats):
                return stats
            assert time.monotonic() < end, stats
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        """Send the supervisor a signal."""
        os.kill(self.pid, number)

    def stop(self, number: int = SIGTERM) -> list[str]:
        """End it by a signal; returns its log. No process of it is left."""
        pids = workers_of(self.pid)
        self.signal(number)
        assert self.running.ends() == 0, self.running.err.rest()
        assert not [pid for pid in pids if alive(pid)]
        return self.running.err.rest()


class Belongings:
    """What a service has before anybody has connected: processes and descriptors. After any load it
    has the same."""

    def __init__(self, server: Service, workers: int) -> None:
        self._server = server
        self._rest = self._now()
        assert len(self._rest[0]) == workers

    def _now(self) -> tuple[list[int], int]:
        """(descriptors of each worker, of the supervisor)"""
        return (
            [descriptors(pid) for pid in workers_of(self._server.pid)],
            descriptors(self._server.pid),
        )

    def check(self) -> None:
        """Wait until it has just these, and no zombie."""
        until(lambda: self._now() == self._rest, LIMIT_SECONDS)
        assert not [pid for pid in workers_of(self._server.pid) if state(pid) == "Z"]

    def check_end(self) -> list[str]:
        """The same, then end it by SIGTERM: no process that it started is left, whoever its parent
        is. Returns the log."""
        self.check()
        log = self._server.stop()
        assert processes_in(self._server.line.directory) == []
        return log


def descriptors(pid: int) -> int:
    """How many a process has open; 0 if it has just ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


def state(pid: int) -> str:
    """Of a process, as proc(5) has it; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def processes_in(directory: Path) -> list[int]:
    """All processes whose current directory this is: those of one test's service, and what they
    have started. No zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cwd"):
        try:
            if os.readlink(path) == str(directory):
                found.append(int(path.parts[2]))
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    """Whether a process runs. One that has ended and is init's to bury does not."""
    return state(pid) not in ("", "Z")


def gone(pids: list[int]) -> bool:
    """Whether these processes end within the time that a test has."""
    end = time.monotonic() + LIMIT_SECONDS
    while any(map(alive, pids)):
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def ready(count: int, but: Iterable[int] = ()) -> Callable[[dict[str, Any]], bool]:
    """Whether so many workers are ready, none of them one of these, and no other is there."""

    def check(stats: dict[str, Any]) -> bool:
        rows = [
            row for row in stats["workers"] if row["state"] == "ready" and row["pid"] not in but
        ]
        return len(rows) == count == len(stats["workers"])

    return check


def states(*wanted: str) -> Callable[[dict[str, Any]], bool]:
    """Whether the workers are in these states, in the order of ``stats``."""
    return lambda stats: [row["state"] for row in stats["workers"]] == list(wanted)


def workers_of(pid: int) -> list[int]:
    """The processes that a supervisor has started."""
    with contextlib.suppress(FileNotFoundError):
        return [
            int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        ]
    return []


def balanced(stats: dict[str, Any]) -> bool:
    """Law 3, over the sum of all processes."""
    total = stats["sum"]
    return bool(
        total["received"] == sum(total["fates"].values()) + total["in_flight"] + total["waiting"]
    )


@pytest.fixture
def command_line(tmp_path: Path) -> Iterator[CommandLine]:
    """``green-router`` in a directory of the test's own."""
    line = CommandLine(tmp_path)
    line.env |= {"XDG_RUNTIME_DIR": str(tmp_path)}
    yield line
    line.close()


@pytest.fixture
def service(command_line: CommandLine) -> Iterator[Callable[..., Service]]:
    """``service(application, *options)``: a service with workers, ended with the test.

    It serves when this returns; with ``serves=False``, its supervisor answers.
    """
    started: list[Service] = []
    context: zmq.Context[Any] = zmq.Context()

    def start(
        application: str, *options: str, bind: str = ANY_PORT, serves: bool = True
    ) -> Service:
        command_line.write("app.py", application)
        running = command_line.start("serve", "app:handle_request", "--bind", bind, *options)
        started.append(Service(command_line, running, context))
        if serves:
            started[-1].serves()
        else:
            running.err.until(": starting")
        return started[-1]

    yield start
    for one in started:
        for client in one.clients:
            client.close()
        pids = workers_of(one.pid)
        one.running.process.kill()
        one.running.process.wait()
        assert gone(pids)
    context.term()


__all__ = [
    "ANY_PORT",
    "DISPATCH",
    "FULL",
    "GATED",
    "PATIENCE",
    "PID",
    "Belongings",
    "Service",
    "alive",
    "balanced",
    "gone",
    "processes_in",
    "ready",
    "states",
    "workers_of",
]
