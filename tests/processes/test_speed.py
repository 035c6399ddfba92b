"""What workers gain and what they cost, measured with the load of ``green-router bench``.

Every reply is checked at any size. The promises about speed are held against the figures with
GREEN_ROUTER_TEST_FULL=1 only, on a machine that has two cores for it; ``-s`` shows them.
"""
from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from green_router.commands import bench_load

from .conftest import FULL, PATIENCE, Service

SECONDS = 5.0 if FULL else 0.3
ROUNDS = 3 if FULL else 1

NOISE = 0.85
"""On two cores the load is half of the work: two workers cannot be quicker than one process, and rounds differ by this."""

SPIN = """
import time
def handle_request(request):
    until = time.thread_time() + 0.002
    while time.thread_time() < until:
        pass
    return request.data
"""

ECHO = "def handle_request(request):\n    return request.data\n"


def processor_times(pids: list[int]) -> list[tuple[float, float]]:
    """(seconds on a processor, seconds in wait for one) of the main threads of these processes."""
    rows = [Path(f"/proc/{pid}/schedstat").read_text().split() for pid in pids]
    return [(int(row[0]) / 1e9, int(row[1]) / 1e9) for row in rows]


def load(endpoint: str, clients: int, in_flight: int) -> dict[str, Any]:
    """Put a load on an endpoint; returns replies a second and latencies."""
    order = bench_load.Order(endpoint=endpoint, first=0, clients=clients, at_once=clients, in_flight=in_flight,
                             size_bytes=64, seconds=SECONDS, patience=10 * PATIENCE, drain=10 * PATIENCE, program="")
    with subprocess.Popen([sys.executable, bench_load.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as process:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(asdict(order)) + "\n")
        process.stdin.flush()
        assert json.loads(process.stdout.readline()) == {"ready": True}
        process.stdin.write(f"go {time.monotonic_ns()}\n")
        process.stdin.flush()
        result: dict[str, Any] = json.loads(process.stdout.readline())
        process.stdin.close()
    assert (result["wrong"], result["lost"], result["unasked"]) == (0, 0, 0), result
    assert result["replies"] > 0
    result["rate"] = result["in_time"] / SECONDS
    seen, half = 0, sum(count for _, count in result["latencies"]) / 2
    for microseconds, count in result["latencies"]:
        seen += count
        if seen >= half:
            result["median"] = microseconds
            break
    return result


def best(service: Callable[..., Service], application: str, clients: int, in_flight: int,
         *variants: str) -> list[dict[str, Any]]:
    """Measure services with these options in turns; of each the best round: what other work slowed down says nothing."""
    results: list[list[dict[str, Any]]] = [[] for _ in variants]
    for _ in range(ROUNDS):
        for options, rounds in zip(variants, results, strict=True):
            server = service(application, *options.split())
            pids = server.workers() if "none" not in options else [server.pid]
            before, started = processor_times(pids), time.monotonic()
            rounds.append(load(server.endpoint, clients, in_flight))
            seconds = time.monotonic() - started
            rounds[-1]["busy"] = sum(
                (ran - ran_before) / (seconds - (waited - waited_before))
                for (ran, waited), (ran_before, waited_before) in zip(processor_times(pids), before, strict=True))
            server.stop()
    found = [max(rounds, key=lambda result: result["rate"]) for rounds in results]
    for options, one in zip(variants, found, strict=True):
        print(f"{options:<45} {clients:>3} x {in_flight:<3} {one['rate']:>9.0f}/s  median {one['median']} us  "
              f"{one['busy']:.2f} processors")
    return found


def hold(promise: bool) -> None:
    """Check a promise about speed, where the machine can keep it."""
    if FULL:
        if (os.cpu_count() or 1) < 2:
            pytest.skip("needs two cores")
        assert promise


@pytest.mark.parametrize(("dispatch", "clients", "in_flight"), [("front", 20, 2), ("front", 1, 40), ("direct", 20, 2)])
def test_two_workers_do_twice_the_work(service: Callable[..., Service], dispatch: str, clients: int, in_flight: int) -> None:
    """2 ms of processor time a request; with front also when one DEALER sends everything.

    Held against what the workers make of the time in which the system lets them run: on a machine with other work the rates
    say how much of it there is.
    """
    one, two = best(service, SPIN, clients, in_flight, f"--workers 1 --dispatch {dispatch}", f"--workers 2 --dispatch {dispatch}")
    hold(two["busy"] >= 1.8 * one["busy"] or two["rate"] >= 1.8 * one["rate"])


def test_what_front_costs(service: Callable[..., Service]) -> None:
    alone, front = best(service, ECHO, 1, 1, "--workers none", "--workers 2")
    hold(front["median"] - alone["median"] <= 150)
    (front,) = best(service, ECHO, 10, 20, "--workers 2")
    hold(front["rate"] >= 60_000)


def test_what_direct_gains(service: Callable[..., Service]) -> None:
    alone, direct = best(service, ECHO, 20, 20, "--workers none", "--workers 2 --dispatch direct")
    hold(direct["rate"] >= NOISE * alone["rate"])
