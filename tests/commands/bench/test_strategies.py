"""The strategies: ten programs that do the same, each as it promises at its head.

Rules of this file
  1. They run as the bench runs them, and their clients are the bench's.
  2. What holds for all of them is said here once; what one does not promise is named in a table.
"""

from __future__ import annotations

import re
import runpy
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from command_line import LIMIT_SECONDS

from green_router.commands.bench.load import Client, Dealer, LeanContext
from green_router.commands.bench.strategies import DIRECTORY, Strategy, found, started, with_workers
from green_router.testing import PATIENCE

pytestmark = pytest.mark.measures

STRATEGIES = [
    "short_poll",
    "lock",
    "receive_and_send_threads",
    "inproc_wake",
    "two_sockets",
    "raw_tcp",
    "proxy_threads",
    "asyncio",
    "green_naive",
    "green_router",
]

THREADS = {
    "receive_and_send_threads": 32,
    "inproc_wake": 32,
    "two_sockets": 32,
    "proxy_threads": 32,
}
"""How many requests they handle at the same time. The others: any number."""

SERVED = [
    *(strategy for name, strategy in found().items() if name != "lock"),
    with_workers(found()["green_router"], 1),
]

every_strategy = pytest.mark.parametrize("strategy", SERVED, ids=lambda strategy: strategy.name)


# -- their heads -----------------------------------------------------------------------------------


def test_the_ten_strategies_in_their_order() -> None:
    assert list(found()) == STRATEGIES
    assert [name for name, strategy in found().items() if strategy.own_client] == [
        "two_sockets",
        "raw_tcp",
    ]


def test_the_programs_are_installed_with_the_package() -> None:
    assert DIRECTORY.is_dir()
    assert len(list(DIRECTORY.glob("*.py"))) == len(STRATEGIES)


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_says_at_its_head_what_it_teaches(name: str) -> None:
    strategy = found()[name]
    source = strategy.program.read_text(encoding="utf-8")
    assert re.match(rf'"""{re.escape(strategy.title)}\n\n', source)
    head, _, code = source.partition('"""\n\nimport')
    assert "\nWhat it teaches\n" in head
    # a line of the legend: the longest name, a gap, the title
    assert len(strategy.title) <= 80 - 2 - max(map(len, STRATEGIES))
    if name in THREADS:
        assert f"{THREADS[name]} " in head, (
            "its head says how many requests it handles at the same time"
        )
        assert re.search(rf"\({THREADS[name]}\b", code)


def test_the_lock_is_documentation_only() -> None:
    program = found()["lock"].program
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        timeout=LIMIT_SECONDS,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert f"    $ python examples/strategies/02_lock.py\n    {done.stderr}" in program.read_text(
        encoding="utf-8"
    )


# -- what they do ----------------------------------------------------------------------------------


@contextmanager
def client(strategy: Strategy, reply_seconds: float) -> Iterator[Client]:
    """One client of a strategy that serves."""
    kind = runpy.run_path(str(strategy.program))["Client"] if strategy.own_client else Dealer
    with started(strategy, reply_seconds) as server:
        context = LeanContext(1)
        talks = kind(context, server.endpoint)
        try:
            yield talks
        finally:
            if strategy.own_client:
                talks.close()
            context.destroy()


def ask(talks: Client, bodies: list[bytes]) -> list[bytes]:
    """Send requests at once, and return the replies as they come. **Blocks** until there are as
    many."""
    talks.send(bodies)
    come = select.poll()
    come.register(talks.fileno(), select.POLLIN)
    replies: list[bytes] = []
    limit = time.monotonic() + LIMIT_SECONDS
    while len(replies) < len(bodies):
        assert time.monotonic() < limit, f"{len(replies)} of {len(bodies)} replies came"
        more = talks.replies(len(bodies) - len(replies))
        replies += more
        if not more:
            come.poll(100)
    return replies


@every_strategy
def test_the_reply_is_the_request(strategy: Strategy) -> None:
    bodies = [b"", b"x", b"\0", bytes(range(256)), b"large" * 40_000]
    with client(strategy, 0) as talks:
        for body in bodies:
            assert ask(talks, [body]) == [body]
        assert sorted(ask(talks, bodies)) == sorted(bodies)
        assert not talks.replies(1)


@every_strategy
def test_a_reply_takes_as_long_as_it_is_told(strategy: Strategy) -> None:
    with client(strategy, 0.2) as talks:
        ask(talks, [b"the first one"])
        began = time.monotonic()
        ask(talks, [b"another one"])
        # A sleep may end a little early, by another clock than its own.
        assert time.monotonic() - began >= 0.19


@every_strategy
def test_requests_wait_at_the_same_time(strategy: Strategy) -> None:
    count, seconds = THREADS.get(strategy.name, 200), 0.5 * PATIENCE
    with client(strategy, seconds) as talks:
        ask(talks, [b"the first one"])
        began = time.monotonic()
        bodies = [b"%d" % number for number in range(count)]
        assert sorted(ask(talks, bodies)) == sorted(bodies)
        assert time.monotonic() - began < 4 * seconds, "one after the other, or few at a time"


@pytest.mark.parametrize("name", THREADS)
def test_no_more_than_there_are_threads(name: str) -> None:
    seconds = 0.2
    with client(found()[name], seconds) as talks:
        began = time.monotonic()
        ask(talks, [b"%d" % number for number in range(THREADS[name] + 1)])
        assert time.monotonic() - began >= 2 * seconds - 0.01
