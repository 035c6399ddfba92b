"""``green-router bench``: ten ways to serve a ROUTER, measured under the same load.

Rules of this file
  1. The strategies take turns, round by round, so that a machine that becomes slower or faster
     meanwhile does so for all of them, and each round begins with another one. Each turn is a fresh
     server, fresh clients and connections.
  2. Every reply is checked. A strategy with a reply that is wrong, lost or unasked has failed, and
     gets no figures.
  3. A strategy that cannot be run says why, and the others go on; so they do where one has failed.
  4. Whatever ends the bench (its end, an error, Ctrl-C, SIGTERM, SIGHUP, SIGKILL) ends every
     process that it started. After Ctrl-C what was measured until then is shown.

The fourth rule is kept in measured/subprocesses.py.
"""

from __future__ import annotations

import difflib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import click

from ..measured.subprocesses import cpu_seconds, leave_on_signals
from ..options import duration_option, number_option
from ..terminal import Progress, progress
from . import plot
from .clients import Clients, Failed, Load
from .load import HEAD
from .machine import refuse_what_has_no_room
from .report import Outcome, Report, Round, percentiles
from .strategies import DIRECTORY, OURS, CannotRun, Running, Strategy, found, started, with_workers


def measure(strategy: Strategy, load: Load, passed: Callable[[float], None]) -> Round:
    """Serve by a strategy once, under load. **Blocks** for the load's seconds, and for what comes
    before and after them.

    Args:
        strategy: the strategy.
        load: what the clients do.
        passed: is told again and again how many of the seconds have passed.
    Raises:
        CannotRun: the strategy's program does not serve; the text says why.
        Failed: it ended too early, or a reply was not what it must be.
    """
    with ExitStack() as stack:
        clients = Clients(stack, load, strategy)  # they start while the server does
        server = stack.enter_context(started(strategy, load.reply_seconds))
        try:
            clients.prepare(server.endpoint)
            before = cpu_seconds(server.process)
            begin = clients.go()
            _watch(server, clients, begin, load.seconds, passed)
            results = clients.results()
            after = cpu_seconds(server.process)
            in_time = sum(result["in_time"] for result in results)
            if not in_time:
                raise Failed(f"no reply came within the {load.seconds:g} s that count")
        except Failed as failure:
            raise Failed(server.explain(str(failure))) from failure
    replies = sum(result["replies"] for result in results)
    return Round(
        seconds=load.seconds,
        replies=replies,
        requests_per_second=in_time / load.seconds,
        latency_us=percentiles(
            [(value, count) for result in results for value, count in result["latencies"]]
        ),
        cpu_us_per_request=None
        if before is None or after is None
        else 1e6 * (after - before) / replies,
        load_cpu_us_per_request=1e6 * sum(result["cpu_seconds"] for result in results) / replies,
        load_busy=max(result["busy"] for result in results),
    )


def _watch(
    server: Running, clients: Clients, begin: float, seconds: float, passed: Callable[[float], None]
) -> None:
    while (
        (now := time.monotonic()) < begin + seconds
        and server.process.poll() is None
        and clients.run()
    ):
        passed(max(0.0, now - begin))
        time.sleep(min(0.05, begin + seconds - now))


def compare(
    strategies: Sequence[Strategy],
    outcomes: Mapping[str, Outcome],
    load: Load,
    rounds: int,
    shown: Progress,
) -> None:
    """Measure all strategies in turn, and again, and note what became of each in its outcome."""
    done = 0.0
    for number in range(rounds):
        first = number % len(strategies)
        for strategy in [*strategies[first:], *strategies[:first]]:
            outcome = outcomes[strategy.name]
            if not outcome.not_run and not outcome.failed:
                shown.say(f"{number + 1}/{rounds} {strategy.name}")
                _turn(strategy, outcome, load, partial(_show, shown, done))
            done += load.seconds
            shown.reach(done)


def _show(shown: Progress, done: float, passed: float) -> None:
    shown.reach(done + passed)


def _turn(
    strategy: Strategy, outcome: Outcome, load: Load, passed: Callable[[float], None]
) -> None:
    try:
        outcome.rounds.append(measure(strategy, load, passed))
    except CannotRun as reason:
        if outcome.rounds:
            outcome.failed = f"it served before, but not again: {reason}"
        else:
            outcome.not_run = str(reason)
    except Failed as reason:
        outcome.failed = str(reason)


# -- the command -----------------------------------------------------------------------------------


def _chosen(ctx: click.Context, param: click.Parameter, text: str | None) -> list[Strategy]:
    known = found()
    if not known:
        raise click.UsageError(f"the strategies are not installed: there are none in {DIRECTORY}")
    if text is None:
        return list(known.values())
    names = list(dict.fromkeys(name.strip() for name in text.split(",")))
    for name in names:
        if name not in known:
            close = difflib.get_close_matches(name, list(known), n=1)
            raise click.BadParameter(
                f"there is no strategy {name!r}"
                + (f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}")
            )
    return [known[name] for name in names]


STANDARD_OUTPUT = Path("-")


def _writable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path not in (None, STANDARD_OUTPUT) and not os.access(
        path if path.exists() else path.parent, os.W_OK
    ):
        raise click.BadParameter(f"{str(path)!r} cannot be written")
    return path


def _drawable(ctx: click.Context, param: click.Parameter, path: Path | None) -> Path | None:
    if path is not None:
        _writable(ctx, param, path)
        plot.refuse_what_cannot_be_drawn(path)
    return path


def _long_enough(load: Load) -> None:
    if load.seconds < 2 * load.reply_seconds:
        raise click.UsageError(
            f"--seconds {load.seconds:g} are too short to count replies that take "
            f"{load.reply_seconds:g} s each (--sleep-us): choose {10 * load.reply_seconds:g}, or "
            f"{2 * load.reply_seconds:g} at least."
        )


@click.command("bench", short_help="Compare ten ways to serve a ROUTER, on this machine.")
@number_option(
    "--clients", least=1, most=10_000, default=10, help="How many clients are connected."
)
@number_option(
    "--in-flight",
    least=1,
    most=100_000,
    default=10,
    help="How many requests each client keeps on their way.",
)
@number_option(
    "--size",
    "size_bytes",
    least=HEAD.size,
    most=64 * 1024**2,
    default=64,
    metavar="BYTES",
    help=f"How large a request and its reply are, from {HEAD.size} on.",
)
@duration_option("--seconds", 2.0, "How long each strategy is measured in each round.")
@number_option(
    "--rounds", least=1, most=1000, default=3, help="How often the strategies take their turns."
)
@number_option(
    "--sleep-us",
    least=0,
    most=60_000_000,
    default=1000,
    help="How many microseconds the handler sleeps before it returns the data. With 0 nothing is "
    "ever pending, and the poll loop has nothing to ask for.",
)
@click.option(
    "--strategies", callback=_chosen, metavar="NAME,...", help="Which strategies. [default: all]"
)
@number_option(
    "--workers",
    least=1,
    most=1000,
    help="Measure green_router with that many worker processes too.",
)
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, allow_dash=True, path_type=Path),
    callback=_writable,
    metavar="FILE",
    help="Write all figures as JSON: each round, medians, ratios. With - they go to standard "
    "output, in place of the table.",
)
@click.option(
    "--plot",
    "plot_file",
    type=click.Path(dir_okay=False, path_type=Path),
    callback=_drawable,
    metavar="FILE",
    help="Draw throughput, latency and CPU (.png, .svg, .pdf); needs matplotlib.",
)
def command(
    clients: int,
    in_flight: int,
    size_bytes: int,
    seconds: float,
    rounds: int,
    sleep_us: int,
    strategies: list[Strategy],
    workers: int | None,
    json_file: Path | None,
    plot_file: Path | None,
) -> None:
    """Serve the same load in ten ways, and compare.

    Each strategy is a short program that says at its head what it teaches. They serve the same
    handler, which returns the data after --sleep-us. They take turns, a few rounds of them; every
    reply is checked. The table has the medians of the rounds. Nothing needs to be configured; every
    socket is local. The whole takes about a minute and a half; Ctrl-C ends it early, with the table
    of what was measured until then.

    \b
    green-router bench                             a server with all hands full
    green-router bench --clients 1 --in-flight 1   latency where there is little to do
    green-router bench --sleep-us 0                a handler that never waits
    green-router bench --strategies asyncio,green_router --in-flight 100
    green-router bench --json bench.json --plot bench.png

    \b
    Exit codes: 0 all went well; 1 a strategy failed, or Ctrl-C; 2 a wrong
    option, or a load for which this machine has no room.
    """
    load = Load(clients, in_flight, size_bytes, seconds, sleep_us)
    _long_enough(load)
    refuse_what_has_no_room(
        clients,
        in_flight,
        size_bytes,
        2 if any(strategy.own_client for strategy in strategies) else 1,
    )
    if workers is not None:
        strategies = [*strategies, with_workers(found()[OURS], workers)]
    outcomes = {strategy.name: Outcome(strategy.title) for strategy in strategies}
    leave_on_signals()
    interrupted = False
    try:
        with progress(rounds * len(strategies) * seconds) as shown:
            compare(strategies, outcomes, load, rounds, shown)
    except KeyboardInterrupt:
        interrupted = True
    report = Report(load, rounds, workers, outcomes, interrupted)
    if json_file != STANDARD_OUTPUT:
        report.show()
    try:
        _write(report, json_file, plot_file)
    except OSError as error:
        raise click.ClickException(
            f"{error.filename or 'standard output'} could not be written: {error.strerror}"
        ) from error
    if interrupted or report.base is None or any(outcome.failed for outcome in outcomes.values()):
        raise SystemExit(1)


def _write(report: Report, json_file: Path | None, plot_file: Path | None) -> None:
    if json_file == STANDARD_OUTPUT:
        click.echo(report.as_json(), nl=False)
    elif json_file is not None:
        json_file.write_text(report.as_json(), encoding="utf-8")
    if plot_file is not None and report.base is not None:
        plot.draw(report, plot_file)
