"""A server and its clients, each in a process of its own, as the scenarios of reliability/ need
them.

Rules of this file
  1. Each process can be asked, stopped, frozen and killed; what the kernel knows of it is read from
     /proc.
  2. A line is waited for, never slept for; each wait has a limit, scaled by
     GREEN_ROUTER_TEST_PATIENCE.
  3. ``Scene.close`` ends whatever still runs.
"""

from __future__ import annotations

import contextlib
import glob
import json
import os
import queue
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import zmq

import green_router
from green_router.testing import PATIENCE

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"
"""Whether the scenarios have the size of their promise; without, one that fits a quick run."""

LIMIT_SECONDS = (300 if FULL else 60) * PATIENCE
PROGRAMS = Path(__file__).parents[1] / "programs"
TICKS = os.sysconf("SC_CLK_TCK")
ANY_PORT = "tcp://127.0.0.1:0"


def sized(quick: int, full: int) -> int:
    """How many, in this run."""
    return full if FULL else quick


def until(condition: Callable[[], Any], seconds: float = 20 * PATIENCE) -> Any:
    """Wait until the condition holds; returns its value."""
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds:g} s"
        time.sleep(0.005)
    return value


def median(numbers: Sequence[float]) -> float:
    return sorted(numbers)[len(numbers) // 2]


class Program:
    """A program of tests/programs that runs; it is asked by lines."""

    def __init__(
        self,
        name: str,
        *arguments: object,
        before: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        limits: dict[int, tuple[int, int]] | None = None,
    ) -> None:
        package = str(Path(green_router.__file__).parents[1])

        def apply_limits() -> None:
            for what, values in (limits or {}).items():
                resource.setrlimit(what, values)

        self.process = subprocess.Popen(
            [*before, sys.executable, str(PROGRAMS / name), *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ
            | {"PYTHONPATH": package, "PYTHONDONTWRITEBYTECODE": "1"}
            | (environment or {}),
            text=True,
            preexec_fn=apply_limits if limits else None,
        )
        self.pid = self.process.pid
        self._lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self._lines.put(line.strip())
        self._lines.put("")

    def line(self) -> str:
        """The next line that it prints. **Blocks.**"""
        try:
            return self._lines.get(timeout=LIMIT_SECONDS)
        except queue.Empty:
            raise AssertionError("nothing came") from None

    def say(self, text: object) -> None:
        """Give it a line."""
        assert self.process.stdin
        self.process.stdin.write(f"{text}\n")
        self.process.stdin.flush()

    def next(self) -> Any:
        """The next line that it prints, which is JSON. **Blocks.**"""
        return json.loads(self.line())

    def ask(self, question: object) -> Any:
        """Give it a line and return what it answers."""
        self.say(question)
        return self.next()

    def signal(self, number: int) -> None:
        os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.process.kill()
        self.process.wait()

    def ends(self) -> int:
        """Its exit code. **Blocks.**"""
        return self.process.wait(LIMIT_SECONDS)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self._reader.join(LIMIT_SECONDS)
        assert self.process.stdin and self.process.stdout
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        self.process.stdout.close()

    # -- what the kernel knows ---------------------------------------------------------------------

    def resident_bytes(self) -> int:
        return int(self._status(self.pid, "VmRSS")) * 1024

    def peak_bytes(self) -> int:
        """The most that was resident since ``forget_peak``."""
        return int(self._status(self.pid, "VmHWM")) * 1024

    def forget_peak(self) -> None:
        Path(f"/proc/{self.pid}/clear_refs").write_text("5")

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.pid}/fd"))

    def processor_seconds(self) -> float:
        """Of all its threads so far."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def wake_ups(self) -> int:
        """Voluntary context switches of all its threads so far."""
        return sum(
            int(self._status(path, "voluntary_ctxt_switches"))
            for path in glob.glob(f"/proc/{self.pid}/task/*")
        )

    @staticmethod
    def _status(where: int | str, name: str) -> str:
        text = Path(
            f"/proc/{where}/status" if isinstance(where, int) else f"{where}/status"
        ).read_text()
        return text.split(f"\n{name}:")[1].split()[0]


class NotServing(Exception):
    """The server has ended before it served."""


class ServerProcess(Program):
    """tests/programs/obedient_server.py; ``endpoint`` is its first one."""

    def __init__(
        self,
        *endpoints: str,
        before: Sequence[str] = (),
        environment: dict[str, str] | None = None,
        limits: dict[int, tuple[int, int]] | None = None,
        program: str = "obedient_server.py",
        **settings: Any,
    ) -> None:
        super().__init__(
            program,
            json.dumps(settings),
            *(endpoints or (ANY_PORT,)),
            before=before,
            environment=environment,
            limits=limits,
        )
        first = self.line()
        if not first:
            self.close()
            raise NotServing(f"exit code {self.process.returncode}")
        self.endpoints: list[str] = json.loads(first)
        self.endpoint = self.endpoints[0]
        # What it opens after it has said so, it has open now: a baseline of descriptors holds.
        self.stats()

    @property
    def address(self) -> tuple[str, int]:
        host, _, port = self.endpoint[6:].rpartition(":")
        return host, int(port)

    def stats(self) -> dict[str, Any]:
        return check(self.ask("stats"))

    def fate(self, name: str) -> int:
        return int(self.stats()["fates"][name])

    def stop(self) -> dict[str, Any]:
        """SIGTERM; returns what became of every message."""
        self.signal(signal.SIGTERM)
        final = json.loads(self.line())
        assert self.ends() == 0
        return check(final)

    def idle_wake_ups(self, seconds: float = 1.0) -> int:
        """In that time, once it has come to rest: a watchdog looks two times more."""
        time.sleep(0.8 * PATIENCE)
        before = self.wake_ups()
        time.sleep(seconds)
        return self.wake_ups() - before


def check(stats: dict[str, Any]) -> dict[str, Any]:
    """Law 3: each message is in exactly one place."""
    unsettled = stats["in_flight"] + stats["waiting"]
    assert stats["received"] == sum(stats["fates"].values()) + unsettled, stats
    assert sum(stats["where"].values()) == unsettled, stats
    return stats


class Scene:
    """Everything that one scenario starts."""

    def __init__(self) -> None:
        self._programs: list[Program] = []
        self._sockets: list[zmq.Socket[bytes]] = []
        self._context: zmq.Context[zmq.Socket[bytes]] | None = None

    def server(self, *endpoints: str, **options: Any) -> ServerProcess:
        self._programs.append(ServerProcess(*endpoints, **options))
        return self._programs[-1]  # type: ignore[return-value]

    def program(self, name: str, *arguments: object, **options: Any) -> Program:
        self._programs.append(Program(name, *arguments, **options))
        return self._programs[-1]

    def asker(
        self,
        server: ServerProcess,
        clients: int,
        requests: int,
        words: str,
        routing_id: str = "-",
        pad: int = 0,
        **options: Any,
    ) -> Program:
        """tests/programs/asker.py, when the server has received its requests, and nobody asks
        beside it."""
        before = server.stats()["received"]
        asker = self.program(
            "asker.py",
            server.endpoint,
            clients,
            requests,
            routing_id,
            pad,
            *words.split(),
            **options,
        )
        assert asker.line() == "asked"
        until(lambda: server.stats()["received"] >= before + clients * requests, 60 * PATIENCE)
        return asker

    def load(
        self, server: ServerProcess, clients: int, rate: float, words: str = "echo"
    ) -> Program:
        """tests/programs/load.py."""
        load = self.program("load.py", server.endpoint, clients, rate, *words.split())
        assert load.line() == "ready"
        return load

    def noise(self) -> Callable[[], float]:
        """Starts a bystander; call what is returned for the seconds by which it was late at the
        worst since the last call: what no promise of the server can be better than at that
        moment."""
        bystander = self.program("bystander.py")
        assert bystander.line() == "ready"
        return lambda: float(bystander.ask("?"))

    def client(self, endpoint: str, kind: int = zmq.DEALER, **options: Any) -> zmq.Socket[bytes]:
        """A client in this process."""
        if self._context is None:
            self._context = zmq.Context()
            self._context.set(zmq.MAX_SOCKETS, 4000)
        socket = self._context.socket(kind)
        socket.linger = 0
        socket.rcvtimeo = int(1000 * LIMIT_SECONDS)
        for name, value in options.items():
            setattr(socket, name, value)
        socket.connect(endpoint)
        self._sockets.append(socket)
        return socket

    def close(self) -> None:
        for socket in self._sockets:
            socket.close()
        if self._context is not None:
            self._context.term()
        for program in self._programs:
            program.close()
