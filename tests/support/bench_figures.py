"""Figures that a bench could have measured, made up; and for one that measures, a load and a client
that is broken."""

from __future__ import annotations

import sys
from pathlib import Path

from green_router.commands.bench import clients as bench_clients
from green_router.commands.bench.clients import Load
from green_router.commands.bench.report import PERCENTILES, Outcome, Round
from green_router.commands.bench.strategies import Strategy

LOAD = Load(clients=1, in_flight=1, size_bytes=64, seconds=1.0, sleep_us=0)


def measured(rate: float, cpu: float | None, busy: float = 0.5, latency: int = 100) -> Round:
    latencies = {name: latency * factor for factor, name in enumerate(PERCENTILES, 1)}
    return Round(1.0, round(rate), rate, latencies, cpu, 2.5, busy)


def outcomes(cpu: float | None) -> dict[str, Outcome]:
    return {
        "asyncio": Outcome("Slow.", [measured(1000, cpu), measured(3000, cpu)]),
        "lock": Outcome("", not_run="it must not"),
        "green_naive": Outcome("", [measured(1, cpu)], failed="replies: 1 lost"),
        "green_router": Outcome(
            "Quick.", [measured(8000, cpu, latency=50), measured(8000, cpu, latency=50)]
        ),
    }


def words(text: str) -> str:
    return " ".join(text.split())


def load(clients: int = 10, size_bytes: int = 64, patience: float = bench_clients.PATIENCE) -> Load:
    return Load(
        clients, in_flight=4, size_bytes=size_bytes, seconds=0.5, sleep_us=0, patience=patience
    )


def unseen(seconds: float) -> None:
    """Nobody looks at the progress."""


BROKEN_CLIENT = """\
import os
import time

class Client:
    def __init__(self, context, endpoint):
        self.readable, self.writable = os.pipe()
        self.come = []

    def fileno(self):
        return self.readable

    def send(self, requests):
        {fault}
        self.come += requests

    def replies(self, enough):
        come, self.come = self.come, []
        return come

if __name__ == "__main__":
    print("serving on nothing", flush=True)
    time.sleep(1000)
"""


def broken_client(directory: Path, fault: str) -> Strategy:
    """A strategy whose client runs this code before it sends, and answers itself."""
    program = directory / "broken.py"
    program.write_text(BROKEN_CLIENT.format(fault=fault))
    return Strategy(
        "broken", "It breaks.", program, (sys.executable, str(program)), own_client=True
    )
