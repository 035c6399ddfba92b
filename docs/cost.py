"""Draws cost.svg: the processor time of a request against clients, requests in flight, and size.

Usage: python docs/cost.py [ROUNDS [SECONDS] | draw]     from a checkout, with green-router[bench]
installed

Rules of this file
  1. Each point is a run of ``green-router bench``, which checks every reply; the figures of all
     rounds go to cost.json, and the picture is drawn from there.
  2. The points of one axis take turns, round after round, so that a slow minute of the machine is
     no slope.
  3. What this machine has no room for is named and left out.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
STRATEGIES = ("green_router", "green_naive")
AXES = {
    "clients, one request of each in flight": (
        "--clients",
        (1, 10, 100, 1000, 3000, 10_000),
        ("--in-flight", "1"),
    ),
    "requests in flight of each of 10 clients": (
        "--in-flight",
        (1, 3, 10, 30, 100, 300),
        ("--clients", "10"),
    ),
    "bytes of a request and of its reply": (
        "--size",
        (64, 1024, 16_384, 65_536, 262_144, 1_048_576),
        ("--clients", "10", "--in-flight", "4"),
    ),
}


def measure(arguments: list[str], seconds: str) -> dict[str, float] | None:
    """Microseconds of a request for each strategy; None, and a line that says why, where that could
    not be measured."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "green_router",
            "bench",
            "--sleep-us",
            "0",
            "--rounds",
            "1",
            "--seconds",
            seconds,
            "--strategies",
            ",".join(STRATEGIES),
            *arguments,
            "--json",
            "-",
        ],
        check=False,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        print(" ".join(arguments), "left out:", done.stderr.strip() or done.stdout, file=sys.stderr)
        return None
    measured = json.loads(done.stdout)["strategies"]
    return {name: measured[name]["median"]["cpu_us_per_request"] for name in STRATEGIES}


def measure_all(rounds: int, seconds: str) -> dict[str, dict[str, list[dict[str, float]]]]:
    """By axis and by value, what each round has measured."""
    figures: dict[str, dict[str, list[dict[str, float]]]] = {}
    for axis, (option, values, others) in AXES.items():
        points = figures[axis] = {str(value): [] for value in values}
        for number in range(rounds):
            for value in list(points):
                measured = measure([option, value, *others], seconds)
                if measured is None:
                    del points[value]
                else:
                    points[value].append(measured)
                    print(f"{number + 1}/{rounds} {axis}: {value}: {measured}", file=sys.stderr)
    return figures


def draw(figures: dict[str, Any]) -> None:
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "green_router"}):
        figure = Figure(figsize=(14, 4.2), layout="constrained")
        for axes, (axis, points) in zip(
            figure.subplots(1, len(figures)), figures.items(), strict=True
        ):
            values = list(map(int, points))
            for name, color in zip(STRATEGIES, ("tab:green", "tab:gray"), strict=True):
                each = [[measured[name] for measured in rounds] for rounds in points.values()]
                axes.plot(
                    values, list(map(statistics.median, each)), marker="o", color=color, label=name
                )
                axes.fill_between(
                    values,
                    list(map(min, each)),
                    list(map(max, each)),
                    color=color,
                    alpha=0.2,
                    linewidth=0,
                )
            axes.set_xscale("log")
            axes.set_yscale("log")
            axes.set_xlabel(axis)
            axes.set_ylabel("processor time of the server, us/request")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            axes.yaxis.set_major_formatter("{x:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.grid(alpha=0.3, which="both")
            axes.legend(frameon=False)
        rounds = max(len(measured) for points in figures.values() for measured in points.values())
        figure.suptitle(
            f"Echo over tcp on loopback. Lines: medians of {rounds} interleaved rounds; shades: "
            "from the lowest to the highest.",
            fontsize=9,
        )
        figure.savefig(HERE / "cost.svg", metadata={"Date": None})


if __name__ == "__main__":
    if sys.argv[1:2] != ["draw"]:
        measured = measure_all(int((sys.argv[1:] or ["3"])[0]), (sys.argv[2:] or ["2"])[0])
        (HERE / "cost.json").write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
    draw(json.loads((HERE / "cost.json").read_text(encoding="utf-8")))
