"""What every scenario has: processes, and a place for the figure that it measured.

The figures are printed at the end of the run; GREEN_ROUTER_TEST_MEASURED names a file that gets
them as JSON.
"""

from __future__ import annotations

import faulthandler
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from processes_apart import FULL, LIMIT_SECONDS, Scene

TEST_DEADLINE = 4 * LIMIT_SECONDS

FIGURES: list[dict[str, str]] = []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not sys.platform.startswith("linux"):
        for item in items:
            if Path(__file__).parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="the scenarios read /proc"))


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """As for every test, but longer."""
    faulthandler.dump_traceback_later(TEST_DEADLINE, exit=True)
    yield
    faulthandler.cancel_dump_traceback_later()


@pytest.fixture
def scene() -> Iterator[Scene]:
    scene = Scene()
    yield scene
    scene.close()


@pytest.fixture
def measured(request: pytest.FixtureRequest) -> Callable[[str, str], None]:
    """``measured(name, value)``: a figure of this scenario, in words."""

    def note(name: str, value: str) -> None:
        FIGURES.append({"test": request.node.name, "figure": name, "value": value})
        print(f"{name}: {value}")

    return note


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if FIGURES:
        terminalreporter.section(f"measured, at {'full' if FULL else 'quick'} size")
        for row in FIGURES:
            terminalreporter.write_line(f"{row['test']}: {row['figure']}: {row['value']}")
        if path := os.environ.get("GREEN_ROUTER_TEST_MEASURED"):
            Path(path).write_text(json.dumps(FIGURES, indent=1) + "\n")
