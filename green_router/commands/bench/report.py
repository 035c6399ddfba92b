"""The figures of ``green-router bench`` as a table and as JSON.

Rules of this file
  1. It computes and shows; it measures nothing.
  2. A figure of a strategy is the median of its rounds. What was not measured is None, and shown as
     "-".
  3. Ratios are to one strategy, the base: the original loop, or the first one where that was not
     run.
  4. A rate at which the clients were the limit is shown as what it is: the server answers at least
     so many.
"""

from __future__ import annotations

import json
import platform
import statistics
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import click

from ..terminal import WIDTH, table
from .clients import Load
from .machine import cores, processor

BASE = "short_poll"
"""The strategy that the others are compared with."""

PERCENTILES = {"p50": 0.50, "p90": 0.90, "p99": 0.99, "p99_9": 0.999, "max": 1.0}
"""The share of replies that took so long at the most."""

BUSY = 0.9
"""The share of the time from which on the clients, always at work, are the limit and not the
server."""


@dataclass(frozen=True, slots=True)
class Round:
    """One strategy, measured once.

    Attributes:
        seconds: how long it was counted.
        replies: all that came, also before and after that, each of them checked.
        requests_per_second: those that came within the seconds.
        latency_us: percentiles, by their names in PERCENTILES, of the requests that were sent
            within the seconds.
        cpu_us_per_request: the server's CPU time for each reply; None where the system does not
            say.
        load_cpu_us_per_request: the same of the clients.
        load_busy: for which share of the seconds the busiest of the load processes had something to
            do, 0 to 1.
    """

    seconds: float
    replies: int
    requests_per_second: float
    latency_us: dict[str, int]
    cpu_us_per_request: float | None
    load_cpu_us_per_request: float
    load_busy: float


@dataclass(slots=True)
class Outcome:
    """The result of one strategy.

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
        """True if there are figures."""
        return bool(self.rounds) and self.failed is None

    @property
    def load_bound(self) -> bool:
        """True if the clients were the limit, not the server."""
        return self.measured and (self.median(busy) or 0) > BUSY

    def median(self, figure: Callable[[Round], float | None]) -> float | None:
        """The median of a figure over the rounds; None if one of them lacks it."""
        values = [value for value in map(figure, self.rounds) if value is not None]
        return statistics.median(values) if values and len(values) == len(self.rounds) else None

    def percentile(self, name: str) -> float | None:
        """The median of a latency percentile, in microseconds."""
        return self.median(latency(name))


def percentiles(latencies: Sequence[tuple[int, int]]) -> dict[str, int]:
    """Read percentiles from a histogram.

    Args:
        latencies: (microseconds, how many), in any order; a value may come more than once. At least
            one.
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
    """The results of a whole run.

    Attributes:
        load: what the clients did.
        rounds: how often each strategy was to be measured.
        workers: how many green_router was to have too, or None.
        outcomes: by strategy, in their order.
        interrupted: whether it was ended early.
    """

    load: Load
    rounds: int
    workers: int | None
    outcomes: Mapping[str, Outcome]
    interrupted: bool = False

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

    # -- the table ---------------------------------------------------------------------------------

    def show(self) -> None:
        """Print the table, what each strategy is, why some have no figures, and how to read it."""
        measured = {name: outcome for name, outcome in self.outcomes.items() if outcome.measured}
        if measured:
            table(
                [
                    "",
                    "requests\n/s",
                    "ratio",
                    "p50\nms",
                    "p99\nms",
                    "CPU us\n/req.",
                    "ratio",
                    "load\nbusy",
                ],
                [[name, *self._cells(outcome)] for name, outcome in measured.items()],
            )
        lines = {name: outcome.title for name, outcome in measured.items()}
        lines |= {
            name: self._reason(outcome)
            for name, outcome in self.outcomes.items()
            if not outcome.measured
        }
        column = max(map(len, lines), default=0) + 2
        for name, text in lines.items():
            click.echo(
                textwrap.fill(f"{name:<{column}}{text}", WIDTH, subsequent_indent=" " * column)
            )
        for text in self._notes() if measured else ():
            click.echo(f"\n{textwrap.fill(text, WIDTH)}")

    def _cells(self, outcome: Outcome) -> list[str]:
        return [
            (">= " if outcome.load_bound else "") + _figure(outcome.median(rate), decimals=0),
            _figure(self.ratio(outcome, rate)),
            _figure(outcome.percentile("p50"), unit=1000),
            _figure(outcome.percentile("p99"), unit=1000),
            _figure(outcome.median(cpu)),
            _figure(self.ratio(outcome, cpu)),
            f"{100 * (outcome.median(busy) or 0):.0f}%",
        ]

    def _reason(self, outcome: Outcome) -> str:
        """Why it has no figures."""
        if outcome.failed:
            return f"failed: {outcome.failed}"
        return (
            f"not run: {outcome.not_run}"
            if outcome.not_run
            else "not measured: its turn had not come"
        )

    def _notes(self) -> Iterator[str]:
        yield self.conditions()
        yield (
            f"Ratios are to {self.base}: above 1 is more requests, or more CPU time of the server "
            "for each of them. Load busy: the share of the time in which the clients had "
            "something to do."
        )
        if any(outcome.load_bound for outcome in self.outcomes.values()):
            yield (
                f">= means that the clients were the limit, with less than {100 - 100 * BUSY:.0f} "
                "% of the time to spare: the server answers so many at least, and perhaps more."
            )
        if self.interrupted:
            yield "Interrupted: the table has what was measured until then."

    def conditions(self) -> str:
        """Describe the conditions of the run, in two sentences or three."""
        load = self.load
        counts = sorted(
            {len(outcome.rounds) for outcome in self.outcomes.values() if outcome.measured}
        )
        rounds = (
            f"{counts[0]} to {counts[-1]} rounds" if len(counts) > 1 else _count(counts[0], "round")
        )
        handler = f"sleeps {load.sleep_us:,} us" if load.sleep_us else "returns at once"
        return (
            f"Medians of {rounds} of {load.seconds:g} s; {_count(load.clients, 'client')}, each "
            f"with {_count(load.in_flight, 'request')} of {load.size_bytes:,} bytes in flight; "
            f"the handler {handler}. Every reply was checked. "
            f"{_count(load.processes, 'load process', 'load processes')}, "
            f"{_count(cores(), 'core')}."
        )

    # -- JSON --------------------------------------------------------------------------------------

    def as_json(self) -> str:
        """Everything: where it was measured, with which load, each round, medians and ratios."""
        load = self.load
        return (
            json.dumps(
                {
                    "versions": _versions(),
                    "machine": {
                        "system": platform.platform(),
                        "processor": processor(),
                        "cores": cores(),
                    },
                    "load": {
                        "clients": load.clients,
                        "in_flight": load.in_flight,
                        "size_bytes": load.size_bytes,
                        "seconds": load.seconds,
                        "rounds": self.rounds,
                        "sleep_us": load.sleep_us,
                        "workers": self.workers,
                        "processes": load.processes,
                    },
                    "interrupted": self.interrupted,
                    "base": self.base,
                    "strategies": {
                        name: self._strategy(outcome) for name, outcome in self.outcomes.items()
                    },
                },
                indent=2,
            )
            + "\n"
        )

    def _strategy(self, outcome: Outcome) -> dict[str, Any]:
        known: dict[str, Any] = {
            "title": outcome.title,
            "not_run": outcome.not_run,
            "failed": outcome.failed,
            "rounds": [asdict(measured) for measured in outcome.rounds],
        }
        if outcome.measured:
            known["load_bound"] = outcome.load_bound
            known["median"] = _figures(outcome.median)
            known["ratio"] = _figures(lambda figure: self.ratio(outcome, figure))
        return known


def _figures(of: Callable[[Callable[[Round], float | None]], float | None]) -> dict[str, Any]:
    """Every figure of a round, as it comes out of a function of figures."""
    return {
        "requests_per_second": of(rate),
        "latency_us": {name: of(latency(name)) for name in PERCENTILES},
        "cpu_us_per_request": of(cpu),
        "load_cpu_us_per_request": of(lambda measured: measured.load_cpu_us_per_request),
        "load_busy": of(busy),
    }


def rate(measured: Round) -> float:
    """Return the requests per second of a measurement."""
    return measured.requests_per_second


def latency(name: str) -> Callable[[Round], float]:
    """One of its latency percentiles, in microseconds."""
    return lambda measured: measured.latency_us[name]


def cpu(measured: Round) -> float | None:
    """The server's CPU time for each request, in microseconds."""
    return measured.cpu_us_per_request


def busy(measured: Round) -> float:
    """How busy its clients were."""
    return measured.load_busy


def _figure(value: float | None, unit: float = 1, decimals: int = 2) -> str:
    if value is None:
        return "-"
    whole_digits = len(str(int(value / unit)))
    return f"{value / unit:,.{max(0, min(decimals, 3 - whole_digits))}f}"


def _count(number: int, noun: str, nouns: str = "") -> str:
    return f"{number:,} {noun if number == 1 else nouns or noun + 's'}"


def _versions() -> dict[str, str]:
    import gevent
    import zmq

    from ... import __version__

    return {
        "green_router": __version__,
        "python": platform.python_version(),
        "gevent": gevent.__version__,
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
    }
