"""How each server is measured: the same clients, the same loads, one server after the other.

Rules of this file
  1. Every figure is measured in this run; none is kept from another, none is estimated. What the
     system does not tell is None.
  2. All servers run from the start and are idle until it is their turn, so that all are warm and
     start-up is nobody's. They are idle together, for the one measurement of that; all else is done
     with one after the other.
  3. What is ready when, no server decides: each has the same device (programs/device.py).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from ..measured.cost import Cost, Usage
from ..measured.subprocesses import Lines, Process, child, ending
from .machine import Machine

PROGRAMS = Path(__file__).with_name("programs")

SHORTEST, LONGEST = 0.020, 0.050
"""How long a reply takes for the clients at work, in seconds."""

PENDING_REQUESTS, PENDING_CLIENTS = 1000, 10
"""How many requests are on their way at once, and from how many DEALER sockets."""

STALLED_REQUESTS, STALLED_BYTES = 2500, 8000
"""What the one who does not read has asked for: 20 MB, more than a ROUTER's high-water mark of
1,000 messages and the buffers of the system hold, and less than those and the 16 MiB that
green_router parks for one client."""

IDLE = 0.04
"""The share of all seconds in which all servers are idle. What is left is the servers', each
alike."""

FEW, MANY, STALL, PENDING = 0.19, 0.15, 0.12, 0.54
"""The shares of one server's seconds."""

FIRST_READY = 2 / 3
"""Of the time in which requests are pending, the part after which the first is ready; the last is
at its end."""

SETTLING = 0.1
"""Seconds from the last reply to the measurement of idleness: so long may a server still tidy
up."""

STARTING = 60.0
"""Seconds that a program has to say that it is there, on a machine that is busy."""

LATE = 30.0
"""Seconds by which the clients may be late with their answer: they wait for ten for a reply that
does not come."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure.

    Attributes:
        name: as it is called while it is measured, and in a sentence.
        heading: as it is called in the table, on two lines.
        command: starts it; the first line that it prints ends with its endpoint.
    """

    name: str
    heading: str
    command: Sequence[str]


def _serve(handler: str, *options: str) -> tuple[str, ...]:
    return (
        sys.executable,
        "-m",
        "green_router",
        "serve",
        "--bind",
        "tcp://127.0.0.1:*",
        "--log-level",
        "warning",
        str(PROGRAMS / handler),
        *options,
    )


CONTENDERS = (
    Contender(
        "the loop", "poll\nloop", (sys.executable, str(PROGRAMS / "loop.py"), "tcp://127.0.0.1:*")
    ),
    Contender(
        "the same handler", "same\nhandler", _serve("app.py:handle_request", "--until-ready")
    ),
    Contender("the same and one line", "and\none line", _serve("app_ready.py:handle_request")),
    Contender("the handler waits", "handler\nwaits", _serve("app_waits.py:handle_request")),
)


@dataclass(frozen=True, slots=True)
class Load:
    """The result of one load on one server.

    Attributes:
        late: for each reply, the seconds from when it was ready to when the client had it; sorted.
        begun: for each, the seconds from when the client sent the request to when the handler had
            it; sorted.
        cost: what the server used meanwhile.
    """

    late: Sequence[float]
    begun: Sequence[float]
    cost: Cost


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of some sorted values does not exceed."""
    return values[min(int(len(values) * share), len(values) - 1)]


@dataclass(frozen=True, slots=True)
class Measured:
    """All results of one server.

    Attributes:
        few: with few clients at work.
        many: with many.
        others: with few again, while one more had asked for much and did not read.
        lost: how many of that one's replies never came.
        pending: with many requests on their way that take long.
        idle: while its clients were connected and silent.
    """

    few: Load
    many: Load
    others: Load
    lost: int
    pending: Load
    idle: Cost


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan says how long everything takes, and how many clients there are.

    Attributes:
        seconds: all of it, roughly, without the starting.
        clients: how many are many.
    """

    seconds: float
    clients: int

    @property
    def few(self) -> int:
        """The number of clients that are few."""
        return min(5, self.clients)

    @property
    def idle(self) -> float:
        """The seconds in which all servers are idle."""
        return IDLE * self.seconds

    def of_one(self, share: float) -> float:
        """The seconds that are this share of one server's."""
        return share * (1 - IDLE) * self.seconds / len(CONTENDERS)

    @property
    def pending(self) -> tuple[float, float]:
        """The seconds that pending requests take: the shortest and the longest."""
        longest = self.of_one(PENDING)
        return FIRST_READY * longest, longest


@dataclass(frozen=True, slots=True)
class Program:
    """A process that was started, with the lines that it prints."""

    process: Process
    lines: Lines
    name: str

    def line(self, seconds: float) -> str:
        """Return its next line, within that time. Raises click.ClickException: there is none."""
        try:
            line = self.lines.next(seconds)
        except TimeoutError:
            raise click.ClickException(f"{self.name} said nothing for {seconds:g} s") from None
        if line is None:
            raise self.ended()
        return line.decode()

    def tell(self, do: str, endpoint: str, **arguments: float) -> None:
        """Let these clients do something. Raises click.ClickException: they have ended."""
        assert self.process.stdin
        line = json.dumps({"do": do, "endpoint": endpoint, **arguments}) + "\n"
        try:
            # Past the file's buffer: what stays there when the clients have ended would be written
            # again when the pipe is closed, and fail there in place of this error.
            os.write(self.process.stdin.fileno(), line.encode())
        except BrokenPipeError:
            raise self.ended() from None

    def ended(self) -> click.ClickException:
        """Return the error that this process has ended. **Blocks** until it has, or for a while."""
        return click.ClickException(f"{self.name}: the process {ending(self.process)}")


@contextmanager
def started(name: str, *command: str) -> Iterator[Program]:
    """Run a program while the block runs."""
    with child(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Program(process, Lines(process), name)


def measure_all(
    plan: Plan, machine: Machine, contenders: Sequence[Contender] = CONTENDERS
) -> list[Measured]:
    """Start all servers and the clients, and measure. **Blocks**.

    Raises:
        click.ClickException: a process ended, or a reply was wrong or lost.
    """
    with ExitStack() as stack:
        machine.shown.say("starting")
        clients, stalled = (
            stack.enter_context(started(name, sys.executable, str(PROGRAMS / "clients.py")))
            for name in ("the clients", "the one who does not read")
        )
        running = [
            (contender, stack.enter_context(started(contender.name, *contender.command)))
            for contender in contenders
        ]
        servers = [
            Turn(server, server.line(STARTING).split()[-1], clients, stalled, plan, machine)
            for _, server in running
        ]
        for server in servers:
            server.connect()
        machine.shown.say("all servers: idle")
        time.sleep(SETTLING)
        idle = _idle(servers, plan.idle, machine)
        return [server.measure(cost) for server, cost in zip(servers, idle, strict=True)]


def _idle(servers: Sequence[Turn], seconds: float, machine: Machine) -> list[Cost]:
    before = [Usage(server.pid) for server in servers]
    machine.wait(seconds)
    after = [Usage(server.pid) for server in servers]
    return [later.since(earlier) for earlier, later in zip(before, after, strict=True)]


@dataclass(frozen=True, slots=True)
class Turn:
    """A turn is one server, and what is done with it."""

    server: Program
    endpoint: str
    clients: Program
    stalled: Program
    plan: Plan
    machine: Machine

    @property
    def pid(self) -> int:
        """The process of the server."""
        return self.server.process.pid

    def connect(self) -> None:
        """Let the few clients connect, and have one reply each."""
        self.clients.tell(
            "work",
            self.endpoint,
            clients=self.plan.few,
            seconds=0,
            shortest=SHORTEST,
            longest=LONGEST,
        )
        _result(self.clients, STARTING)

    def measure(self, idle: Cost) -> Measured:
        """Measure all but the idleness, and end the server: what it still holds shall not cost the
        next one's time."""
        plan, name = self.plan, self.server.name
        few = self._at_work(f"{plan.few} clients", plan.few, FEW)
        many = self._at_work(f"{plan.clients} clients", plan.clients, MANY)

        self.stalled.tell(
            "stall",
            self.endpoint,
            requests=STALLED_REQUESTS,
            padding=STALLED_BYTES,
            seconds=plan.of_one(STALL),
        )
        others = self._at_work("one client does not read", plan.few, STALL)
        lost = int(_result(self.stalled, LATE)["dropped"])

        shortest, longest = plan.pending
        self.machine.shown.say(f"{name}: {PENDING_REQUESTS:,} requests pending")
        self.clients.tell(
            "pend",
            self.endpoint,
            clients=PENDING_CLIENTS,
            requests=PENDING_REQUESTS,
            shortest=shortest,
            longest=longest,
        )
        cost = self._cost(longest)
        pending = _load(_result(self.clients, LATE), cost)

        self.clients.tell("leave", self.endpoint)
        _result(self.clients, LATE)
        self.server.process.kill()
        return Measured(few, many, others, lost, pending, idle)

    def _at_work(self, what: str, clients: int, share: float) -> Load:
        seconds = self.plan.of_one(share)
        self.machine.shown.say(f"{self.server.name}: {what}")
        self.clients.tell(
            "work",
            self.endpoint,
            clients=clients,
            seconds=seconds,
            shortest=SHORTEST,
            longest=LONGEST,
        )
        cost = self._cost(seconds)
        return _load(_result(self.clients, LATE), cost)

    def _cost(self, seconds: float) -> Cost:
        before = Usage(self.pid)
        self.machine.wait(seconds)
        cost = Usage(self.pid).since(before)
        if self.server.process.poll() is not None:
            raise self.server.ended()
        return cost


def _result(clients: Program, seconds: float) -> dict[str, Any]:
    """Return what the clients say. Raises click.ClickException: a reply was wrong, or did not come
    though its client has read."""
    result: dict[str, Any] = json.loads(clients.line(seconds))
    if result["wrong"] or result["lost"]:
        raise click.ClickException(
            f"{result['wrong']} replies were wrong, {result['lost']} did not come"
        )
    return result


def _load(result: dict[str, Any], cost: Cost) -> Load:
    if not result["late"]:
        raise click.ClickException("no reply came")
    late, begun = (
        sorted(microseconds / 1e6 for microseconds in result[what]) for what in ("late", "begun")
    )
    return Load(late, begun, cost)
