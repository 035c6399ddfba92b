"""What every test has: a deadline of its own, nothing left open, and accounts that balance (law
3)."""

from __future__ import annotations

import faulthandler
import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from green_router.testing import PATIENCE, RunningServer, running_server

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # A shell starts what runs in its background so, and programs that tests start would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGQUIT, signal.SIG_DFL)  # likewise
signal.signal(signal.SIGHUP, signal.SIG_DFL)  # nohup ignores it, and that is inherited, too

TEST_DEADLINE = 120 * PATIENCE
"""Seconds. At full size a test takes as long as it takes: that is bounded by its own waits."""
if os.environ.get("GREEN_ROUTER_TEST_FULL") == "1":
    TEST_DEADLINE *= 10

hypothesis.settings.register_profile("green_router", deadline=None)  # a busy machine is no failure
hypothesis.settings.load_profile("green_router")

FOLDERS = {
    "commands": "commands",
    "machines": "scenarios",
    "processes": "workers",
    "proxy": "scenarios",
    "reliability": "scenarios",
}
"""The mark of all tests in a folder; setup.cfg says what each means."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        if folder in FOLDERS:
            item.add_marker(FOLDERS[folder])


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """A test that hangs ends the run with every thread's stack, because nothing else could tell
    where it hangs."""
    faulthandler.dump_traceback_later(TEST_DEADLINE, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def serve() -> Iterator[Callable[..., RunningServer]]:
    """``serve(handler, *endpoints, **settings)``: a started server, stopped and checked at the end
    of the test."""
    with ExitStack() as stack:

        def start(handler: Callable[[Any], Any], *endpoints: str, **settings: Any) -> RunningServer:
            return stack.enter_context(running_server(handler, *endpoints, **settings))

        yield start


@pytest.fixture
def open_files() -> Iterator[Callable[[], int]]:
    """How many descriptors this process has open; skipped where /proc does not tell."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc/self/fd to count descriptors")

    def count() -> int:
        gc.collect()
        return len(os.listdir("/proc/self/fd"))

    return count
