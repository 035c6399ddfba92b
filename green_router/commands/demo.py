"""``green-router demo``: the same clients, served by the poll loop and by green_router.

Rules of this file
  1. Every figure is measured in this run; none is kept from another, none is estimated. What the system does not tell
     is shown as "-".
  2. The clients are started once and talk to each server in turn; they are told nothing but the endpoint and how long
     replies shall take.
  3. Whatever ends the demo (its end, an error, Ctrl-C, SIGTERM, SIGHUP) ends every process that it started.

The programs it starts are in demo_programs.py; green_router is started as ``green-router serve`` starts it. The third
rule is kept in children.py.
"""
from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import NoReturn

import click

from .children import Lines, Process, child, ending
from .options import duration
from .screen import Progress, progress, table
from .usage import Cost, Usage

PROGRAMS = str(Path(__file__).with_name("demo_programs.py"))

SHORTEST, LONGEST = 0.020, 0.050
"""How long a reply takes, in seconds."""

WORKING, PENDING, IDLE = 0.56, 0.17, 0.17
"""How each server's share of the time is spent; what is left is for starting, and for SETTLING."""

STARTING = 60.0
"""Seconds that a program has to say that it is there, on a machine that is busy."""

LATE = 30.0
"""Seconds by which a client may be late with its answer: it waits for a reply that does not come for ten of them."""

SETTLING = 0.1
"""Seconds from one state to the next that are not measured: twice the longest pause of until_ready."""


@dataclass(frozen=True, slots=True)
class Contender:
    """A server to measure.

    Attributes:
        name: as it is called while it is measured.
        heading: as it is called in the table, on two lines.
        command: starts it; the first line that it prints ends with its endpoint.
    """

    name: str
    heading: str
    command: Sequence[str]


SERVE = (sys.executable, "-m", "green_router", "serve", "--bind", "tcp://127.0.0.1:*", "--log-level", "warning")

CONTENDERS = (
    Contender("poll loop", "original\npoll loop", (sys.executable, PROGRAMS, "original", "tcp://127.0.0.1:*")),
    Contender("green_router, same handler", "green_router,\nsame handler",
              (*SERVE, "--until-ready", "green_router.commands.demo_programs:handle_request")),
    Contender("green_router, handler waits", "green_router,\nhandler waits",
              (*SERVE, "green_router.commands.demo_programs:wait_and_reply")),
)

LEGEND = """\
original poll loop   asks again, every millisecond, for each pending reply
same handler         green-router serve app:handle_request --until-ready
handler waits        for its reply, so that nobody needs to ask again
replies pending      each client waits for one reply that takes long
wake-ups             how often a thread of the server slept and was woken"""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one server did.

    Attributes:
        seconds: how long the clients sent requests.
        added: for each reply, the seconds by which it came later than the handler had it; sorted.
        working: the server's cost while the clients sent requests.
        pending: while each client waited for one reply that takes long.
        idle: while they were connected and silent.
    """

    seconds: float
    added: list[float]
    working: Cost
    pending: Cost
    idle: Cost

    def percentile(self, share: float) -> float:
        """The seconds that this share of the replies did not exceed."""
        return self.added[min(int(len(self.added) * share), len(self.added) - 1)]


@dataclass(frozen=True, slots=True)
class Program:
    """A process that was started, and the lines that it prints."""

    process: Process
    lines: Lines
    name: str

    def line(self, seconds: float) -> str:
        """Its next line, within that time. Raises click.ClickException: there is none."""
        try:
            line = self.lines.next(seconds)
        except TimeoutError:
            raise click.ClickException(f"{self.name} said nothing for {seconds:g} s") from None
        if line is None:
            raise self.ended()
        return line.decode()

    def ended(self) -> click.ClickException:
        """That it has, as an error."""
        return click.ClickException(f"{self.name} {ending(self.process)}")


def measure(contender: Contender, clients: Sequence[Program], seconds: float, shown: Progress) -> Measured:
    """Run one server, and let the clients work, then wait for one reply each, then be silent.

    Args:
        contender: the server.
        clients: the client processes.
        seconds: how long all of it may take, roughly.
        shown: gets the steps, and the seconds that were measured.
    Raises:
        click.ClickException: a process ended, or a reply was wrong or lost.
    """
    working, pending, idle = WORKING * seconds, PENDING * seconds, IDLE * seconds
    with _started(contender.name, *contender.command) as server:
        def cost_of(what: str, seconds: float) -> Cost:
            shown.say(f"{contender.name}: {what}")
            before = Usage(server.process.pid)
            _wait(seconds, shown)
            cost = Usage(server.process.pid).since(before)
            if server.process.poll() is not None:
                raise server.ended()
            return cost

        shown.say(f"{contender.name}: starting")
        endpoint = server.line(STARTING).split()[-1]
        _tell(clients, endpoint, 0, SHORTEST, LONGEST)
        _results(clients, STARTING)

        _tell(clients, endpoint, working, SHORTEST, LONGEST)
        at_work = cost_of(f"{len(clients)} clients at work", working)
        added = _results(clients, LATE)

        _tell(clients, endpoint, 0, pending + 2 * SETTLING, pending + 2 * SETTLING)
        time.sleep(SETTLING)
        while_pending = cost_of("replies pending", pending)
        _results(clients, pending + LATE)

        time.sleep(SETTLING)
        return Measured(working, sorted(added), at_work, while_pending, cost_of("idle", idle))


@contextmanager
def _started(name: str, *command: str) -> Iterator[Program]:
    with child(*command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        yield Program(process, Lines(process), name)


def _tell(clients: Sequence[Program], endpoint: str, seconds: float, shortest: float, longest: float) -> None:
    for client in clients:
        assert client.process.stdin
        client.process.stdin.write(f"{endpoint} {seconds} {shortest} {longest}\n")
        client.process.stdin.flush()


def _results(clients: Sequence[Program], seconds: float) -> list[float]:
    results = [json.loads(client.line(seconds)) for client in clients]
    wrong, lost = (sum(result[what] for result in results) for what in ("wrong", "lost"))
    if wrong or lost:
        raise click.ClickException(f"{wrong} replies were wrong, {lost} did not come")
    return [microseconds / 1e6 for result in results for microseconds in result["added"]]


def _wait(seconds: float, shown: Progress) -> None:
    now = time.monotonic()
    end = now + seconds
    while now < end:
        time.sleep(min(0.05, end - now))
        before, now = now, time.monotonic()
        shown.advance(min(now, end) - before)


def report(contenders: Sequence[Contender], results: Sequence[Measured]) -> None:
    """Print what was measured."""
    def row(name: str, cell: Callable[[Measured], str]) -> list[str]:
        return [name, *map(cell, results)]

    gap = row("", lambda _: "")
    table(["", *(contender.heading for contender in contenders)], [
        row("requests, each reply checked", lambda m: f"{len(m.added):,}"),
        row("requests/s", lambda m: f"{len(m.added) / m.seconds:,.0f}"),
        gap,
        row("server adds to handler, p50", lambda m: f"{1000 * m.percentile(0.50):.1f} ms"),
        row("server adds to handler, p99", lambda m: f"{1000 * m.percentile(0.99):.1f} ms"),
        gap,
        row("at work: CPU", lambda m: _figure("{:.1f} %", m.working.cpu_percent)),
        row("at work: wake-ups/s", lambda m: _figure("{:,.0f}", m.working.wakeups_per_second)),
        row("replies pending: CPU", lambda m: _figure("{:.2f} %", m.pending.cpu_percent)),
        row("replies pending: wake-ups/s", lambda m: _figure("{:,.1f}", m.pending.wakeups_per_second)),
        row("idle: CPU", lambda m: _figure("{:.2f} %", m.idle.cpu_percent)),
        row("idle: wake-ups/s", lambda m: _figure("{:,.1f}", m.idle.wakeups_per_second)),
    ])
    click.echo(LEGEND)
    if results[0].working.cpu_seconds is None:
        click.echo('"-"                  this system has no /proc, so CPU and wake-ups were not measured')


def _figure(form: str, value: float | None) -> str:
    return "-" if value is None else form.format(value)


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


@click.command("demo", short_help="Compare the poll loop with green_router, on this machine.")
@click.option("--seconds", type=float, callback=duration, metavar="SECONDS", default=10.0, show_default=True,
              help="How long to measure, in all.")
@click.option("--clients", "count", type=click.IntRange(1, 500), metavar="N", default=5, show_default=True,
              help="How many REQ clients, each a process of its own.")
def command(seconds: float, count: int) -> None:
    """Serve the same clients by the poll loop, then by green_router, and compare.

    The clients are plain REQ sockets in processes of their own, and do not change. A reply takes the handler 20 to 50
    ms. Nothing needs to be configured; every socket is local.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    with ExitStack() as stack, progress(seconds * (WORKING + PENDING + IDLE)) as shown:
        shown.say(f"starting {count} clients")
        clients = [stack.enter_context(_started("a client", sys.executable, PROGRAMS, "client", str(n))) for n in range(count)]
        results = [measure(contender, clients, seconds / len(CONTENDERS), shown) for contender in CONTENDERS]
    report(CONTENDERS, results)
