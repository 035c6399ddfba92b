"""The figures of ``green-router bench`` as a picture: throughput, latency and CPU, a row for each
strategy.

Rules of this file
  1. matplotlib is imported when it draws: it is an extra, and slow to import.
  2. Whether it can draw is found out before anything is measured, by drawing.
  3. Every text of an SVG is text, so that it can be searched and read aloud.
"""

from __future__ import annotations

import io
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from .report import Outcome, Report, cpu, rate
from .strategies import OURS

MARKERS = {"p50": "o", "p90": "|", "p99": "D", "p99_9": ">"}
"""How the percentiles are drawn."""


def refuse_what_cannot_be_drawn(path: Path) -> None:
    """Look whether a picture of that name can be drawn here.

    Raises:
        click.UsageError: it cannot; the text says why.
    """
    try:
        from matplotlib.figure import Figure

        figure = Figure()
        known = figure.canvas.get_supported_filetypes()
        kind = path.suffix.lstrip(".").lower()
        if kind in known:
            figure.savefig(io.BytesIO(), format=kind)
    except Exception as error:  # what is broken inside of it raises whatever it likes
        if (
            isinstance(error, ModuleNotFoundError)
            and (error.name or "").partition(".")[0] == "matplotlib"
        ):
            raise click.UsageError(
                "--plot needs matplotlib, which is not installed: python -m pip install "
                "'green-router[bench]'"
            ) from error
        raise click.UsageError(
            f"--plot needs matplotlib, which is installed but does not work: "
            f"{type(error).__name__}: {error}"
        ) from error
    if kind not in known:
        raise click.BadParameter(f"{str(path)!r} must end in one of .{', .'.join(sorted(known))}")


def draw(report: Report, path: Path) -> None:
    """Draw all strategies that were measured; the file's name says the format."""
    import matplotlib
    from matplotlib.figure import Figure

    measured = {name: outcome for name, outcome in report.outcomes.items() if outcome.measured}
    outcomes = list(measured.values())
    colors = ["tab:green" if name.startswith(OURS) else "tab:gray" for name in measured]
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure = Figure(figsize=(14, 2 + 0.42 * len(measured)), layout="constrained")
        rates, latencies, cpus = figure.subplots(1, 3, sharey=True, width_ratios=(4, 5, 3))
        _draw_rates(rates, outcomes, colors)
        _draw_latencies(latencies, outcomes, colors)
        _draw_cpus(cpus, outcomes, colors)
        rates.set_yticks(range(len(measured)), list(measured))
        rates.invert_yaxis()
        figure.suptitle(
            f"{report.conditions()}\n"
            "Bars and marks: medians of the rounds. Black lines: from the lowest round to the "
            "highest.",
            fontsize=9,
        )
        figure.savefig(path, dpi=150)


def _draw_rates(axes: Any, outcomes: Sequence[Outcome], colors: Sequence[str]) -> None:
    for row, (outcome, color) in enumerate(zip(outcomes, colors, strict=True)):
        _draw_bar(
            axes, row, list(map(rate, outcome.rounds)), color, ">= " if outcome.load_bound else ""
        )
    axes.set_xlabel("requests/s")
    axes.margins(x=0.25)
    axes.locator_params(axis="x", nbins=5)
    axes.xaxis.set_major_formatter("{x:,.0f}")


def _draw_cpus(axes: Any, outcomes: Sequence[Outcome], colors: Sequence[str]) -> None:
    for row, (outcome, color) in enumerate(zip(outcomes, colors, strict=True)):
        _draw_bar(
            axes, row, [value for value in map(cpu, outcome.rounds) if value is not None], color
        )
    axes.set_xlabel("CPU of the server, us/request")
    axes.margins(x=0.25)
    axes.locator_params(axis="x", nbins=4)


def _draw_bar(axes: Any, row: int, each: Sequence[float], color: str, before: str = "") -> None:
    if not each:
        return
    median = statistics.median(each)
    axes.barh(row, median, color=color, height=0.7)
    axes.plot([min(each), max(each)], [row, row], color="black", linewidth=1)
    axes.annotate(
        f" {before}{median:,.{0 if median >= 100 else 1}f}",
        (max(each), row),
        va="center",
        fontsize=8,
    )


def _draw_latencies(axes: Any, outcomes: Sequence[Outcome], colors: Sequence[str]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    for row, (outcome, color) in enumerate(zip(outcomes, colors, strict=True)):
        reached = [(outcome.percentile(name) or 0) / 1000 for name in MARKERS]
        axes.plot(reached, [row] * len(reached), color=color, linewidth=1, zorder=1)
        for value, marker in zip(reached, MARKERS.values(), strict=True):
            axes.scatter(value, row, marker=marker, color=color, s=36)
    for name, marker in MARKERS.items():
        axes.scatter([], [], marker=marker, color="black", s=36, label=name.replace("_", "."))
    axes.set_xlabel("latency, ms")
    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.grid(axis="x", alpha=0.3)
    axes.legend(
        fontsize=8, ncols=len(MARKERS), loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False
    )
