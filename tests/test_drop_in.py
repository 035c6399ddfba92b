"""The drop-in beside the loop that it replaces: the same replies to the same clients, for less
work.

All programs are examples, and run as such. The number of requests is a tenth of the full one,
unless GREEN_ROUTER_TEST_FULL=1.
"""

from __future__ import annotations

import ast
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from difflib import ndiff
from pathlib import Path

import pytest
import zmq
from terminal import ROOT, Program, Terminal

from green_router.testing import PATIENCE

pytestmark = pytest.mark.examples

ORIGINAL_LOOP, DROP_IN, FUTURES = (
    "examples/original_loop.py",
    "examples/drop_in.py",
    "examples/futures.py",
)
TOLD = "examples/drop_in_told.py"
ANY_PORT = "tcp://127.0.0.1:*"

CLIENTS = 20
REQUESTS = 10_000 if os.environ.get("GREEN_ROUTER_TEST_FULL") == "1" else 1_000

FEWER = 1.5
"""How many times fewer wake-ups, at the least: a reply that takes two seconds is asked about every
8 ms in the end. A busy machine takes some of the loop's away."""

WINDOW = 2.0
"""Seconds over which work is counted: 30 of until_ready's longest pauses."""

counts_switches = pytest.mark.skipif(
    not Path("/proc/self/task").is_dir(), reason="needs /proc/PID/task to count in"
)


# -- the same program ------------------------------------------------------------------------------


def test_the_same_replies_to_the_same_clients() -> None:
    with Terminal() as terminal:
        endpoints = [
            terminal.serve("python", program, ANY_PORT)[1] for program in (ORIGINAL_LOOP, DROP_IN)
        ]
        clients = [
            terminal.start(
                "python",
                "tests/programs/ask_all.py",
                str(number),
                str(REQUESTS // CLIENTS),
                *endpoints,
            )
            for number in range(CLIENTS)
        ]
        while not all(client.ended for client in clients):
            terminal.read("end of a client", 120)
        right = f"{REQUESTS // CLIENTS} replies from each of 2 endpoints are right"
        assert [client.lines for client in clients] == [[right]] * CLIENTS, terminal.screen


def test_the_migration_is_an_import_and_a_line() -> None:
    added = [
        line[2:] for line in ndiff(code(ORIGINAL_LOOP), code(DROP_IN)) if line.startswith("+ ")
    ]
    assert added == [
        "from green_router import Server, until_ready",
        "Server(until_ready(handle_request)).serve_forever(endpoint)",
    ]


def test_the_step_after_it_is_a_decorator_and_a_line() -> None:
    changed = [
        line[2:].strip() for line in ndiff(code(DROP_IN), code(TOLD)) if line.startswith("+ ")
    ]
    assert [line for line in changed if "#" not in line] == [
        "@until_ready",
        "jobs[request].add_done_callback(handle_request.ready)",
        "Server(handle_request).serve_forever(endpoint)",
    ]


def code(program: str) -> list[str]:
    """The lines of a program below its header."""
    source = (ROOT / program).read_text(encoding="utf-8")
    return source.splitlines()[ast.parse(source).body[0].end_lineno :]


# -- for less work ---------------------------------------------------------------------------------


@counts_switches
def test_no_wake_up_while_idle() -> None:
    with Terminal() as terminal:
        server, endpoint = terminal.serve("python", DROP_IN, ANY_PORT)
        with asked(endpoint) as clients:
            assert [client.recv() for client in clients] == [b"READY?"] * CLIENTS
            assert wake_ups_when_settled(server) == 0


@counts_switches
def test_no_wake_up_while_futures_are_pending() -> None:
    with Terminal() as terminal:
        server, endpoint = terminal.serve("python", FUTURES, ANY_PORT, str(2 * WINDOW + PATIENCE))
        with asked(endpoint) as clients:
            assert wake_ups_when_settled(server) == 0
            assert replies_waiting(clients) == 0
            assert [client.recv() for client in clients] == [b"READY?"] * CLIENTS


@counts_switches
def test_fewer_wake_ups_while_replies_are_pending() -> None:
    """Both serve at the same time."""
    seconds = str(2 * WINDOW + PATIENCE)
    with Terminal() as terminal:
        served = [
            terminal.serve("python", program, ANY_PORT, seconds)
            for program in (ORIGINAL_LOOP, DROP_IN)
        ]
        servers = [server for server, _ in served]
        with asked(*(endpoint for _, endpoint in served)) as clients:
            time.sleep(WINDOW / 2)  # until_ready's pauses have grown
            before = list(map(wake_ups, servers))
            time.sleep(WINDOW)
            loop, drop_in = (
                now - then for now, then in zip(map(wake_ups, servers), before, strict=True)
            )
            assert replies_waiting(clients) == 0
            assert [client.recv() for client in clients] == [b"READY?"] * CLIENTS * 2
    assert loop >= FEWER * drop_in, (
        f"the loop woke up {loop} times, the drop-in {drop_in} times, in {WINDOW} s"
    )


@contextmanager
def asked(*endpoints: str) -> Iterator[list[zmq.Socket[bytes]]]:
    """Clients that have sent a request and have not looked for the reply."""
    with zmq.Context() as context:
        clients = [context.socket(zmq.REQ) for _ in range(CLIENTS * len(endpoints))]
        try:
            for index, client in enumerate(clients):
                client.linger = 0
                client.rcvtimeo = int(30_000 * PATIENCE)
                client.connect(endpoints[index % len(endpoints)])
                client.send(b"ready?")
            yield clients
        finally:
            for client in clients:
                client.close()


def replies_waiting(clients: list[zmq.Socket[bytes]]) -> int:
    return sum(bool(client.poll(0)) for client in clients)


def wake_ups_when_settled(server: Program) -> int:
    """How often the server's threads woke up in a window that begins when they have come to
    rest."""
    limit = time.monotonic() + 2 * PATIENCE
    before, now = -1, wake_ups(server)
    while before != now and time.monotonic() < limit:
        time.sleep(0.2)
        before, now = now, wake_ups(server)
    time.sleep(WINDOW)
    return wake_ups(server) - now


def wake_ups(server: Program) -> int:
    """How often the threads of a server have gone to sleep so far."""
    return sum(
        int(line.split()[1])
        for status in Path(f"/proc/{server.process.pid}/task").glob("*/status")
        for line in status.read_text().splitlines()
        if line.startswith("voluntary_ctxt_switches")
    )
