"""What ``green-router bench`` has measured, as a table, as JSON and as a picture.

Rules of this file
  1. It computes and shows; it measures nothing.
  2. A figure of a strategy is the median of its rounds. What was not measured is None, and shown as "-".
  3. Ratios are to one strategy, the base: the original loop, or the first one where that was not run.
"""
from __future__ import annotations

import json
import os
import platform
import statistics
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import click

from .bench_strategies import OURS
from .screen import WIDTH, table

BASE = "short_poll"
"""The strategy that the others are compared with."""

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p99_9": 0.999, "max": 1.0}
"""The share of replies that took so long at the most."""


@dataclass(frozen=True, slots=True)
class Round:
    """One strategy, measured once.

    Attributes:
        seconds: for how long the clients sent requests.
        replies: all that came, each of them checked.
        requests_per_second: those that came within the seconds.
        latency_us: percentiles, by their names in PERCENTILES.
        cpu_us_per_request: the server's CPU time for each reply; None where the system does not say.
        load_cpu_us_per_request: the same of the clients. Where a load process needs a whole core, it is the limit.
    """

    seconds: float
    replies: int
    requests_per_second: float
    latency_us: dict[str, int]
    cpu_us_per_request: float | None
    load_cpu_us_per_request: float


@dataclass(slots=True)
class Outcome:
    """What became of a strategy.

    Attributes:
        title: what it is, in a line.
        rounds: what was measured.
        not_run: why it could not be run.
        failed: what was wrong while it ran; its figures then mean nothing.
    """

    title: str
    rounds: list[Round] = field(default_factory=list)
    not_run: str | None = None
    failed: str | None = None

    @property
    def measured(self) -> bool:
        """Whether it has figures."""
        return bool(self.rounds) and self.failed is None

    def median(self, figure: Callable[[Round], float | None]) -> float | None:
        """The median of a figure over the rounds; None if one of them lacks it."""
        values = [value for value in map(figure, self.rounds) if value is not None]
        return statistics.median(values) if values and len(values) == len(self.rounds) else None

    def percentile(self, name: str) -> float | None:
        """The median of a latency percentile, in microseconds."""
        return self.median(lambda measured: measured.latency_us[name])


def percentiles(latencies: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Read percentiles from a histogram.

    Args:
        latencies: (microseconds, how many), in any order; a value may come more than once. At least one.
    """
    ordered = sorted(latencies)
    total = sum(count for _, count in ordered)
    found: dict[str, int] = {}
    for name, share in PERCENTILES.items():
        seen = 0
        for microseconds, count in ordered:
            seen += count
            if seen >= share * total:
                found[name] = microseconds
                break
    return found


@dataclass(frozen=True, slots=True)
class Report:
    """All of it.

    Attributes:
        load: the options of the load.
        outcomes: by strategy, in their order.
    """

    load: Mapping[str, Any]
    outcomes: Mapping[str, Outcome]

    @property
    def base(self) -> str | None:
        """The strategy that the others are compared with; None if nothing was measured."""
        measured = [name for name, outcome in self.outcomes.items() if outcome.measured]
        return BASE if BASE in measured else next(iter(measured), None)

    def ratio(self, outcome: Outcome, figure: Callable[[Round], float | None]) -> float | None:
        """A figure's median, divided by that of the base."""
        mine = outcome.median(figure)
        base = self.outcomes[self.base].median(figure) if self.base else None
        return mine / base if mine is not None and base else None

    # -- the table -------------------------------------------------------------------------------------------------

    def show(self) -> None:
        """Print the table, what each strategy is, and why some were not run."""
        measured = {name: outcome for name, outcome in self.outcomes.items() if outcome.measured}
        if measured:
            table(["", "requests\n/s", "ratio", "p50\nms", "p99\nms", "CPU us\n/request", "ratio"],
                  [[name, *self._cells(outcome)] for name, outcome in measured.items()])
        lines = {name: outcome.title for name, outcome in measured.items()}
        lines |= {name: f"failed: {outcome.failed}" for name, outcome in self.outcomes.items() if outcome.failed}
        lines |= {name: f"not run: {outcome.not_run}" for name, outcome in self.outcomes.items() if outcome.not_run}
        column = max(map(len, lines)) + 2
        for name, text in lines.items():
            click.echo(textwrap.fill(f"{name:<{column}}{text}", WIDTH, subsequent_indent=" " * column))
        if measured:
            click.echo()
            click.echo(textwrap.fill(f"{self._conditions()} Ratios are to {self.base}.", WIDTH))

    def _cells(self, outcome: Outcome) -> list[str]:
        return [
            _figure(outcome.median(_rate), decimals=0),
            _figure(self.ratio(outcome, _rate)),
            _figure(outcome.percentile("p50"), unit=1000),
            _figure(outcome.percentile("p99"), unit=1000),
            _figure(outcome.median(_cpu)),
            _figure(self.ratio(outcome, _cpu)),
        ]

    def _conditions(self) -> str:
        load = self.load
        handler = f"sleeps {load['sleep_us']:,} us" if load["sleep_us"] else "returns at once"
        rounds, clients, requests = (_count(load[option], noun) for option, noun in (
            ("rounds", "round"), ("clients", "client"), ("in_flight", "request")))
        return (f"Medians of {rounds} of {load['seconds']:g} s; {clients}, each with {requests} of "
                f"{load['size_bytes']:,} bytes in flight; the handler {handler}. Every reply was checked.")

    # -- JSON ------------------------------------------------------------------------------------------------------

    def as_json(self) -> str:
        """Everything: where it was measured, with which load, each round, medians and ratios."""
        return json.dumps({
            "versions": _versions(),
            "machine": {"system": platform.platform(), "cpus": os.cpu_count()},
            "load": dict(self.load),
            "base": self.base,
            "strategies": {name: self._strategy(outcome) for name, outcome in self.outcomes.items()},
        }, indent=2) + "\n"

    def _strategy(self, outcome: Outcome) -> dict[str, Any]:
        known: dict[str, Any] = {"title": outcome.title, "not_run": outcome.not_run, "failed": outcome.failed,
                                 "rounds": [asdict(measured) for measured in outcome.rounds]}
        if outcome.measured:
            known["median"] = {
                "requests_per_second": outcome.median(_rate),
                "latency_us": {name: outcome.percentile(name) for name in PERCENTILES},
                "cpu_us_per_request": outcome.median(_cpu),
                "load_cpu_us_per_request": outcome.median(lambda measured: measured.load_cpu_us_per_request),
            }
            known["ratio"] = {"requests_per_second": self.ratio(outcome, _rate),
                              "cpu_us_per_request": self.ratio(outcome, _cpu)}
        return known

    # -- the picture -----------------------------------------------------------------------------------------------

    def plot(self, path: Path) -> None:
        """Draw throughput and latency percentiles; the file's name says the format. Needs matplotlib."""
        from matplotlib.figure import Figure
        from matplotlib.ticker import LogLocator, NullFormatter

        measured = {name: outcome for name, outcome in self.outcomes.items() if outcome.measured}
        names, rows = list(measured), range(len(measured))
        colors = ["tab:green" if name.startswith(OURS) else "tab:gray" for name in names]
        figure = Figure(figsize=(11, 1.6 + 0.42 * len(names)), layout="constrained")
        rates, latencies = figure.subplots(1, 2, sharey=True)

        for row, outcome, color in zip(rows, measured.values(), colors, strict=True):
            each = [_rate(one) for one in outcome.rounds]
            median = statistics.median(each)
            rates.barh(row, median, color=color, height=0.7)
            rates.plot([min(each), max(each)], [row, row], color="black", linewidth=1)
            rates.annotate(f" {median:,.0f}", (max(each), row), va="center", fontsize=8)
            reached = [(outcome.percentile(name) or 0) / 1000 for name in ("p50", "p90", "p99", "p99_9")]
            latencies.plot(reached, [row] * 4, color=color, linewidth=1, zorder=1)
            for value, marker, label in zip(reached, "o|D>", ("p50", "p90", "p99", "p99.9"), strict=True):
                latencies.scatter(value, row, marker=marker, color=color, s=36, label=label if not row else None)
        rates.set_yticks(rows, names)
        rates.invert_yaxis()
        rates.margins(x=0.15)
        rates.set_xlabel("requests/s (line: lowest to highest round)")
        rates.locator_params(axis="x", nbins=5)
        rates.xaxis.set_major_formatter("{x:,.0f}")
        latencies.set_xscale("log")
        latencies.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        latencies.xaxis.set_major_formatter("{x:g}")
        latencies.xaxis.set_minor_formatter(NullFormatter())
        latencies.set_xlabel("latency, ms")
        latencies.grid(axis="x", alpha=0.3)
        latencies.legend(fontsize=8, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
        figure.suptitle(self._conditions(), fontsize=9)
        figure.savefig(path, dpi=150)


def _rate(measured: Round) -> float:
    return measured.requests_per_second


def _cpu(measured: Round) -> float | None:
    return measured.cpu_us_per_request


def _figure(value: float | None, unit: float = 1, decimals: int = 2) -> str:
    if value is None:
        return "-"
    whole_digits = len(str(int(value / unit)))
    return f"{value / unit:,.{max(0, min(decimals, 3 - whole_digits))}f}"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' if number != 1 else ''}"


def _versions() -> dict[str, str]:
    import gevent
    import zmq

    from .. import __version__
    return {"green_router": __version__, "python": platform.python_version(), "gevent": gevent.__version__,
            "pyzmq": zmq.pyzmq_version(), "libzmq": zmq.zmq_version()}
