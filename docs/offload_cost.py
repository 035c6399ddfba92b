"""Prints how computing handlers do in workers, in an executor's processes, and in a Dask cluster.

Usage: python docs/offload_cost.py [ROUNDS [SECONDS]]     from a checkout, with green-router[dask]
installed

Rules of this file
  1. Each has two processes that compute, and the same load: a DEALER client that keeps so many
     requests on their way. Every reply is checked.
  2. They take turns, round after round; what is printed are medians.
"""

from __future__ import annotations

import os
import socket
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import monotonic, perf_counter

import zmq

HERE = Path(__file__).parent

CELLS = [(2, 1), (2, 4), (2, 32), (20, 4), (20, 32)]
"""Milliseconds of a request, and requests on their way."""


def compute(steps: int) -> bytes:
    """Compute for so many steps, in Python."""
    value = 0
    for step in range(steps):
        value = (value * 31 + step) & 0xFFFF
    return b"%d" % value


def handle_request(request):
    """Compute here."""
    return compute(int(request.data))


def offloaded(request):
    """Compute where --offload says."""
    from green_router import offload

    return offload(compute)(int(request.data))


def free_port() -> int:
    """Return a port that nobody has just now."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(*command: str) -> Iterator[subprocess.Popen[str]]:
    """Run a program while the block runs."""
    environment = os.environ | {"PYTHONPATH": str(HERE), "PYTHONWARNINGS": "ignore"}
    process = subprocess.Popen(
        [sys.executable, "-m", *command], env=environment, stderr=subprocess.DEVNULL, text=True
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


@contextmanager
def serving(handler: str, *options: str) -> Iterator[str]:
    """Serve while the block runs; gives the endpoint."""
    endpoint = f"tcp://127.0.0.1:{free_port()}"
    with running("green_router", "serve", f"offload_cost:{handler}", "--bind", endpoint, *options):
        yield endpoint


@contextmanager
def cluster() -> Iterator[str]:
    """Run a scheduler and two workers of Dask while the block runs; gives the address."""
    port, cli = free_port(), "distributed.cli.dask_"
    address = f"tcp://127.0.0.1:{port}"
    worker = cli + "worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard"
    with (
        running(cli + "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"),
        running(*worker),
        running(*worker),
    ):
        yield address


def load(endpoint: str, steps: int, in_flight: int, seconds: float) -> tuple[float, float, float]:
    """Ask for so long. Returns requests a second, and the milliseconds of the median and of the
    slowest of a hundred."""
    client = zmq.Context.instance().socket(zmq.DEALER)
    client.linger, client.rcvtimeo = 0, 60_000
    client.connect(endpoint)
    expected, sent, took = compute(steps), {}, []

    def ask(number: int) -> None:
        sent[b"%d" % number] = monotonic()
        client.send_multipart([b"%d" % number, b"", b"%d" % steps])

    try:
        for warm in range(2 * in_flight):  # connections, imports, processes
            ask(-1 - warm)
        for _ in range(2 * in_flight):
            sent.pop(client.recv_multipart()[0])
        for number in range(in_flight):
            ask(number)
        began = monotonic()
        number = in_flight
        while sent:
            name, _, reply = client.recv_multipart()
            assert reply == expected, reply
            took.append(monotonic() - sent.pop(name))
            if monotonic() < began + seconds:
                ask(number)
                number += 1
        rate = len(took) / (monotonic() - began)
    finally:
        client.close()
    took.sort()
    return rate, 1000 * took[len(took) // 2], 1000 * took[int(len(took) * 0.99)]


def steps_in_a_millisecond() -> int:
    """Return how many steps take a millisecond here, at best."""
    best = 0
    for _ in range(20):
        began = perf_counter()
        compute(20_000)
        best = max(best, int(20 / (perf_counter() - began)))
    return best


def main(rounds: int, seconds: float) -> None:
    """Measure, and print a table in Markdown."""
    steps = steps_in_a_millisecond()
    with ExitStack() as stack:
        address = stack.enter_context(cluster())
        servers = {
            "`--workers 2`": stack.enter_context(serving("handle_request", "--workers", "2")),
            "`--offload processes:2`": stack.enter_context(
                serving("offloaded", "--offload", "processes:2")
            ),
            "`--offload dask:...`": stack.enter_context(
                serving("offloaded", "--offload", f"dask:{address}")
            ),
        }
        found: dict[tuple[str, int, int], list[tuple[float, float, float]]] = {}
        for _ in range(rounds):
            for milliseconds, in_flight in CELLS:
                for name, endpoint in servers.items():
                    found.setdefault((name, milliseconds, in_flight), []).append(
                        load(endpoint, milliseconds * steps, in_flight, seconds)
                    )
    print(f"| a request, on their way | {' | '.join(servers)} |")
    print("| --- |" + " --- |" * len(servers))
    for milliseconds, in_flight in CELLS:
        cells = []
        for name in servers:
            rate, p50, p99 = map(
                statistics.median, zip(*found[name, milliseconds, in_flight], strict=True)
            )
            cells.append(f"{rate:,.0f}/s, {p50:.1f} and {p99:.1f} ms")
        print(f"| {milliseconds} ms, {in_flight} | {' | '.join(cells)} |")


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else 3, float(given[1]) if len(given) > 1 else 2.0)
