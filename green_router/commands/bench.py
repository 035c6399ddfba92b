"""``green-router bench``: ten ways to serve a ROUTER, measured under the same load.

Rules of this file
  1. The strategies take turns, round by round, so that a machine that becomes slower or faster meanwhile does so for
     all of them; each turn is a fresh server and fresh connections.
  2. Every reply is checked. A strategy with a reply that is wrong, lost or unasked has failed, and gets no figures.
  3. A strategy that cannot be run says why, and the others go on.
  4. Whatever ends the bench (its end, an error, Ctrl-C, SIGTERM, SIGHUP) ends every process that it started.

The strategies are in bench_strategies.py, the clients in bench_load.py, table, JSON and picture in bench_report.py;
the fourth rule is kept in children.py.
"""
from __future__ import annotations

import difflib
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from .bench_load import HEAD, Order
from .bench_report import Outcome, Report, Round, percentiles
from .bench_strategies import OURS, CannotRun, Running, Strategy, found, started, with_workers
from .children import Process, child, cpu_seconds
from .options import duration
from .screen import Progress, progress

PROGRAM = str(Path(__file__).with_name("bench_load.py"))

MAX_PROCESSES = 4
"""Load processes at the most, and half of the cores: the server has the other half. One process drives about as much as
one server core answers; only a server of several processes is more than a match for it."""

DESCRIPTORS_PER_CLIENT = 4
"""A client has two sockets at the most, and each a TCP connection and the descriptor by which it wakes its owner."""

PATIENCE = 5.0
"""Seconds without any reply, beyond the handler's own time, after which those that are missing are lost."""


class Failed(Exception):
    """A strategy served, but not as it must; the text says what was wrong."""


class Load:
    """The load processes.

    Args:
        clients: how many in all; the processes share them.
        order: what each client does; endpoint, program and the numbers of clients are filled in for each strategy.
    """

    def __init__(self, stack: ExitStack, clients: int, **order: Any) -> None:
        descriptors = _raise_descriptor_limit()
        needed = -(-clients * DESCRIPTORS_PER_CLIENT // descriptors)
        processes = max(needed, min(clients, MAX_PROCESSES, (os.cpu_count() or 1) // 2), 1)
        self._order = order
        self._shares = [range(clients * n // processes, clients * (n + 1) // processes) for n in range(processes)]
        self._processes = [stack.enter_context(child(sys.executable, PROGRAM, stdin=subprocess.PIPE,
                                                     stdout=subprocess.PIPE)) for _ in self._shares]

    def prepare(self, strategy: Strategy, endpoint: str) -> None:
        """Connect all clients and warm everything up. **Blocks** until that is done.

        Raises:
            Failed: a client could not connect, or a reply was not what it must be.
        """
        program = str(strategy.program) if strategy.own_client else ""
        for process, share in zip(self._processes, self._shares, strict=True):
            order = Order(endpoint=endpoint, first=share.start, clients=len(share), program=program, **self._order)
            _tell(process, json.dumps(asdict(order)))
        answers = list(map(_answer, self._processes))
        if not all(answer.get("ready") for answer in answers):
            for process, answer in zip(self._processes, answers, strict=True):
                if answer.get("ready"):
                    _tell(process, "stop")
                    _answer(process)
            _check(answers)

    def go(self) -> None:
        """Begin what is counted."""
        for process in self._processes:
            _tell(process, "go")

    def results(self) -> list[dict[str, Any]]:
        """What the processes counted. **Blocks** until all replies have come.

        Raises:
            Failed: a reply was not what it must be.
        """
        return _check(list(map(_answer, self._processes)))


def _tell(process: Process, line: str) -> None:
    assert process.stdin
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _answer(process: Process) -> dict[str, Any]:
    assert process.stdout
    line = process.stdout.readline()
    if not line:
        raise click.ClickException(f"a load process ended with exit code {process.wait()}; its own words are above")
    answer: dict[str, Any] = json.loads(line)
    return answer


def _check(answers: list[dict[str, Any]]) -> list[dict[str, Any]]:
    for answer in answers:
        if "error" in answer:
            raise Failed(answer["error"])
    bad = {what: sum(answer.get(what, 0) for answer in answers) for what in ("wrong", "lost", "unasked")}
    if any(bad.values()):
        raise Failed("replies: " + ", ".join(f"{count} {what}" for what, count in bad.items() if count))
    return answers


def measure(strategy: Strategy, load: Load, seconds: float, reply_seconds: float, shown: Progress) -> Round:
    """Serve by a strategy once, under load.

    Args:
        strategy: the strategy.
        load: the clients.
        seconds: how long they send requests.
        reply_seconds: how long each reply takes the handler.
        shown: gets the seconds as they pass.
    Raises:
        CannotRun: the strategy's program does not serve; the text says why.
        Failed: it ended too early, or a reply was not what it must be.
    """
    with started(strategy, reply_seconds) as server:
        try:
            load.prepare(strategy, server.endpoint)
            before = cpu_seconds(server.process)
            load.go()
            _watch(server, seconds, shown)
            results = load.results()
            after = cpu_seconds(server.process)
        except Failed as failure:
            if server.ended():
                raise Failed(f"it ended; {server.last_words()}") from failure
            raise
    replies = sum(result["replies"] for result in results)
    return Round(
        seconds=seconds,
        replies=replies,
        requests_per_second=sum(result["in_time"] for result in results) / seconds,
        latency_us=percentiles([(value, count) for result in results for value, count in result["latencies"]]),
        cpu_us_per_request=None if before is None or after is None else 1e6 * (after - before) / replies,
        load_cpu_us_per_request=1e6 * sum(result["cpu_seconds"] for result in results) / replies,
    )


def _watch(server: Running, seconds: float, shown: Progress) -> None:
    now = time.monotonic()
    end = now + seconds
    while now < end and server.process.poll() is None:
        time.sleep(min(0.05, end - now))
        before, now = now, time.monotonic()
        shown.advance(min(now, end) - before)
    shown.advance(max(0.0, end - now))


def compare(strategies: Sequence[Strategy], outcomes: dict[str, Outcome], load: Load, rounds: int, seconds: float,
            reply_seconds: float, shown: Progress) -> None:
    """Measure all strategies in turn, and again, and note what became of each in its outcome."""
    for number in range(1, rounds + 1):
        for strategy in strategies:
            outcome = outcomes[strategy.name]
            if outcome.not_run or outcome.failed:
                shown.advance(seconds)
                continue
            shown.say(f"{number}/{rounds} {strategy.name}")
            try:
                outcome.rounds.append(measure(strategy, load, seconds, reply_seconds, shown))
            except CannotRun as reason:
                if outcome.rounds:
                    outcome.failed = f"it served before, but not again: {reason}"
                else:
                    outcome.not_run = str(reason)
                shown.advance(seconds)
            except Failed as reason:
                outcome.failed = str(reason)


def _raise_descriptor_limit() -> int:
    """Allow as many descriptors as the system lets us, also to the processes that are started; return how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = hard if hard != resource.RLIM_INFINITY else max(soft, 65536)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
    except (ValueError, OSError):
        return soft
    return wanted


# -- the command -------------------------------------------------------------------------------------------------------


def _chosen(ctx: click.Context, param: click.Parameter, text: str | None) -> list[Strategy]:
    known = found()
    if text is None:
        return list(known.values())
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            raise click.BadParameter(f"there is no strategy {name!r}" + (
                f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}"))
    return [known[name] for name in names]


def _writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None and not os.access(path if path.exists() else path.parent, os.W_OK):
        raise click.BadParameter(f"{str(path)!r} cannot be written")
    return path


def _drawable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if _writable(ctx, param, path) is None:
        return None
    if importlib.util.find_spec("matplotlib") is None:
        raise click.UsageError("--plot needs matplotlib, which is not installed: "
                               "python -m pip install 'green-router[bench]'")
    from matplotlib.backend_bases import FigureCanvasBase

    known = FigureCanvasBase.get_supported_filetypes()
    if path and path.suffix.lstrip(".").lower() not in known:
        raise click.BadParameter(f"{str(path)!r} must end in one of .{', .'.join(sorted(known))}")
    return path


def _end(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


FILE = click.Path(dir_okay=False, path_type=Path)


@click.command("bench", short_help="Compare ten ways to serve a ROUTER, on this machine.")
@click.option("--clients", type=click.IntRange(1, 10_000), metavar="N", default=10, show_default=True,
              help="How many clients are connected.")
@click.option("--in-flight", type=click.IntRange(1, 100_000), metavar="N", default=10, show_default=True,
              help="How many requests each client keeps on their way.")
@click.option("--size", "size_bytes", type=click.IntRange(HEAD.size, 64 * 1024**2), metavar="BYTES", default=64,
              show_default=True, help=f"How large a request and its reply are, from {HEAD.size} on.")
@click.option("--seconds", type=float, callback=duration, metavar="SECONDS", default=2.0, show_default=True,
              help="How long each strategy is measured in each round.")
@click.option("--rounds", type=click.IntRange(1, 1000), metavar="N", default=3, show_default=True,
              help="How often the strategies take their turns.")
@click.option("--sleep-us", type=click.IntRange(0, 60_000_000), metavar="N", default=1000, show_default=True,
              help="How many microseconds the handler sleeps before it returns the data. With 0 nothing is ever "
              "pending, and the poll loop has nothing to ask for.")
@click.option("--strategies", callback=_chosen, metavar="NAME,...", help="Which strategies. [default: all]")
@click.option("--workers", type=click.IntRange(1, 1000), metavar="N",
              help="Measure green_router with that many worker processes too.")
@click.option("--json", "json_file", type=FILE, callback=_writable, metavar="FILE", help="Write all figures as JSON.")
@click.option("--plot", "plot_file", type=FILE, callback=_drawable, metavar="FILE",
              help="Draw throughput and latency (.png, .svg, .pdf); needs matplotlib.")
def command(clients: int, in_flight: int, size_bytes: int, seconds: float, rounds: int, sleep_us: int,
            strategies: list[Strategy], workers: int | None, json_file: Path | None, plot_file: Path | None) -> None:
    """Serve the same load in ten ways, and compare.

    Each strategy is a short program that says at its head what it teaches. They serve the same handler, which returns
    the data after --sleep-us. They take turns, a few rounds of them; every reply is checked. The table has
    the medians of the rounds. Nothing needs to be configured; every socket is local.

    \b
    green-router bench
    green-router bench --strategies asyncio,green_router --in-flight 100
    green-router bench --sleep-us 0
    green-router bench --json bench.json --plot bench.png
    """
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _end)
    if workers is not None:
        strategies = [*strategies, with_workers(found()[OURS], workers)]
    outcomes = {strategy.name: Outcome(strategy.title) for strategy in strategies}
    reply_seconds = sleep_us / 1e6
    with ExitStack() as stack, progress(rounds * len(strategies) * seconds) as shown:
        load = Load(stack, clients, in_flight=in_flight, size_bytes=size_bytes, seconds=seconds,
                    patience=PATIENCE + 2 * reply_seconds)
        compare(strategies, outcomes, load, rounds, seconds, reply_seconds, shown)
    report = Report({"clients": clients, "in_flight": in_flight, "size_bytes": size_bytes, "seconds": seconds,
                     "rounds": rounds, "sleep_us": sleep_us}, outcomes)
    report.show()
    if json_file is not None:
        json_file.write_text(report.as_json(), encoding="utf-8")
    if plot_file is not None and report.base is not None:
        report.plot(plot_file)
    if report.base is None or any(outcome.failed for outcome in outcomes.values()):
        raise SystemExit(1)
