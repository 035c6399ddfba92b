"""What workers gain and what they cost: a benchmark that prints its figures, with the load of
``green-router bench``.

Services stand side by side and are measured in turns; a figure is the median of its rounds, and a
ratio that of the rounds' ratios, so that what a machine does meanwhile hits all alike. Every reply
is checked, at any size.

``GREEN_ROUTER_TEST_FULL=1 pytest -s tests/processes/test_speed.py`` measures in earnest, and prints
each figure beside what is promised for it. What is asserted then is less: what a shared, noisy
machine keeps too, on which the load, the serving process and the workers divide two cores among
them. Whether a promise is kept is read from the figures of a quiet one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import pytest

from green_router.commands.bench.clients import Clients, Load
from green_router.commands.bench.strategies import Strategy

from .conftest import FULL, PATIENCE, Service

pytestmark = pytest.mark.speed

SECONDS, ROUNDS = (4.0, 5) if FULL else (0.3, 1)

SPIN = """
import time
def handle_request(request):
    until = time.thread_time() + 0.002
    while time.thread_time() < until:
        pass
    return request.data
"""

PLAIN = Strategy("service", "a service of the test", Path(), ())

ECHO = "def handle_request(request):\n    return request.data\n"


class Figures:
    """Of one service, round by round. Attributes: rates, replies a second; latencies, medians in
    microseconds."""

    def __init__(self, options: str) -> None:
        self.options = options
        self.rates: list[float] = []
        self.latencies: list[float] = []

    def measure(self, server: Service, clients: int, in_flight: int) -> None:
        """One round."""
        load = Load(
            clients, in_flight, size_bytes=64, seconds=SECONDS, sleep_us=0, patience=10 * PATIENCE
        )
        with ExitStack() as stack:
            crowd = Clients(stack, load, PLAIN)
            crowd.prepare(server.endpoint)
            crowd.go()
            results = crowd.results()
        self.rates.append(sum(result["in_time"] for result in results) / SECONDS)
        counts = sorted(
            (microseconds, count)
            for result in results
            for microseconds, count in result["latencies"]
        )
        half = sum(count for _, count in counts) / 2
        self.latencies.append(
            next(
                microseconds
                for place, (microseconds, _) in enumerate(counts)
                if sum(count for _, count in counts[: place + 1]) >= half
            )
        )
        assert self.rates[-1] > 0

    @property
    def rate(self) -> float:
        return median(self.rates)

    @property
    def latency(self) -> float:
        return median(self.latencies)

    def ratio_to(self, other: Figures) -> float:
        """How many times the rate of the other, as the median of the rounds."""
        return median(mine / its for mine, its in zip(self.rates, other.rates, strict=True))


def measured(
    service: Callable[..., Service], application: str, clients: int, in_flight: int, *variants: str
) -> list[Figures]:
    """Measure services with these options in turns; the first rounds are not counted."""
    figures = [Figures(options) for options in variants]
    servers = [service(application, *options.split()) for options in variants]
    for counted in (False, *[True] * ROUNDS):
        for number, server in enumerate(servers):
            into = figures[number] if counted else Figures("")
            into.measure(server, clients, in_flight)
    for server in servers:
        server.stop()
    for one in figures:
        print(
            f"\n{one.options:<36} {clients:>3} x {in_flight:<3} {one.rate:>8,.0f}/s "
            f"({min(one.rates):,.0f} to {max(one.rates):,.0f})"
            f"  half within {one.latency:,.0f} us",
            end="",
        )
    return figures


def hold(what: str, value: float, promised: str, kept: bool) -> None:
    """Print a figure beside its promise; what is asserted is ``kept``, where the machine has the
    cores for it."""
    print(f"\n    {what}: {value:.2f}; promised: {promised}", end="")
    if FULL and (os.cpu_count() or 1) >= 2:
        assert kept, what


@pytest.mark.parametrize(
    ("dispatch", "clients", "in_flight"), [("front", 20, 2), ("front", 1, 40), ("direct", 20, 2)]
)
def test_two_workers_do_twice_the_work(
    service: Callable[..., Service], dispatch: str, clients: int, in_flight: int
) -> None:
    """2 ms of processor time a request; with front also when one DEALER sends everything."""
    one, two = measured(
        service,
        SPIN,
        clients,
        in_flight,
        f"--workers 1 --dispatch {dispatch}",
        f"--workers 2 --dispatch {dispatch}",
    )
    ratio = two.ratio_to(one)
    # The load and the serving process want cores as well.
    hold("two workers, times one", ratio, "1.8", ratio >= 1.2)


def test_what_front_costs(service: Callable[..., Service]) -> None:
    alone, front = measured(service, ECHO, 10, 10, "--workers none", "--workers 1")
    ratio = front.ratio_to(alone)
    hold(
        "echoes, times one process",
        ratio,
        "0.8, which is 60,000/s where one process does 75,000",
        ratio >= 0.4,
    )
    alone, front = measured(service, ECHO, 1, 1, "--workers none", "--workers 1")
    more = front.latency - alone.latency
    hold("microseconds more for one client", more, "150", more <= 1000 * PATIENCE)


def test_what_direct_gains(service: Callable[..., Service]) -> None:
    alone, direct = measured(
        service, ECHO, 20, 20, "--workers none", "--workers 2 --dispatch direct"
    )
    ratio = direct.ratio_to(alone)
    hold("echoes, times one process", ratio, "1.0", ratio >= 0.5)
