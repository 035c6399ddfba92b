"""The strategies that ``green-router bench`` compares: where they are, and how one is run.

Rules of this file
  1. A strategy is a program: ``NN_name.py ENDPOINT`` serves until a signal ends it, prints a line
     that ends with ``serving on ENDPOINT`` first, and takes REPLY_SECONDS for each reply. It is
     started as its head says that a user starts it, and is told nothing else: no setting of
     green_router that stands in the environment.
  2. A program that ends before it serves cannot be run, and its last line says why.
  3. What is said about a strategy is the first line of its own head.

The programs are in examples/strategies of the source tree, and in the package where it is
installed.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from ..measured.subprocesses import Printed, Process, child, ending

PACKAGE = Path(__file__).parents[2]
DIRECTORY = next(
    (
        path
        for path in (PACKAGE / "strategies", PACKAGE.parent / "examples" / "strategies")
        if path.is_dir()
    ),
    PACKAGE / "strategies",
)

OURS = "green_router"
"""The strategy that the others are there for."""

STARTING, STOPPING, ENDING = 30.0, 3.0, 0.5
"""Seconds that a program may take to serve, to end after SIGTERM, and to end on its own once it has
closed all."""

LOOK = 0.01
"""Seconds between two looks at what a program that starts has printed."""

ANY_PORT = "tcp://127.0.0.1:*"


class CannotRun(Exception):
    """A program ended before it served; the text is its reason."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """One way to serve.

    Attributes:
        name: as on the command line and in the table.
        title: what it is, in a line.
        program: its file.
        command: starts it.
        own_client: whether DEALER clients cannot talk to it, and its file has a class Client.
    """

    name: str
    title: str
    program: Path
    command: tuple[str, ...]
    own_client: bool = False


def found() -> dict[str, Strategy]:
    """All strategies by name, in the order of their numbers."""
    return {
        strategy.name: strategy for strategy in map(_read, sorted(DIRECTORY.glob("[0-9]*_*.py")))
    }


def _read(program: Path) -> Strategy:
    tree = ast.parse(program.read_text(encoding="utf-8"))
    title = (ast.get_docstring(tree) or "").partition("\n")[0]
    own_client = any(isinstance(node, ast.ClassDef) and node.name == "Client" for node in tree.body)
    command = sys.executable, str(program), ANY_PORT
    return Strategy(program.stem.partition("_")[2], title, program, command, own_client)


def with_workers(ours: Strategy, workers: int) -> Strategy:
    """The same handler in several processes. The standard library is left as it is, as it is when
    the program runs alone."""
    command = (
        sys.executable,
        "-m",
        "green_router",
        "serve",
        f"{ours.program}:handle_request",
        "--bind",
        ANY_PORT,
        "--workers",
        str(workers),
        "--no-patch",
        "--log-level",
        "warning",
    )
    return Strategy(
        f"{OURS}, {workers} workers",
        f"The same handler, in {workers} processes.",
        ours.program,
        command,
    )


class Running:
    """A strategy's program that runs.

    Attributes:
        process: its process.
        endpoint: where it serves, once it does.
    """

    def __init__(self, process: Process, printed: Printed) -> None:
        self.process = process
        self.endpoint = ""
        self._printed = printed
        self._first_line = ""

    def wait_until_serving(self) -> None:
        """Learn the endpoint. **Blocks** until it is served.

        Raises:
            CannotRun: the program has ended, or did not serve in time.
        """
        limit = time.monotonic() + STARTING
        while not self.endpoint:
            has_ended = self.process.poll() is not None
            for line in self._printed.lines():
                if line.endswith("\n") and "serving on" in line:
                    self._first_line, self.endpoint = line, line.split()[-1]
                    return
            if has_ended:
                raise CannotRun(
                    self._printed.last_words() or f"it {ending(self.process)} and printed nothing"
                )
            if time.monotonic() > limit:
                said = self._printed.last_words()
                raise CannotRun(
                    f"it did not serve within {STARTING:g} s"
                    + (f"; its last words: {said}" if said else "")
                )
            time.sleep(LOOK)

    def explain(self, failure: str) -> str:
        """Add what the server has to say to what was noticed elsewhere. **Blocks** for a moment if
        it runs: that it ended, others may notice sooner."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(ENDING)
        if self.process.returncode is not None:
            failure = f"it {ending(self.process)}"
        said = self._printed.last_words()
        return (
            f"{failure}; its last words: {said}"
            if said and said != self._first_line.strip()
            else failure
        )


def environment(reply_seconds: float) -> dict[str, str]:
    """Return the environment that all measured programs run in: this green_router, and nothing that
    the user's shell says to it."""
    paths = [str(PACKAGE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith("GREEN_ROUTER_")
    }
    return inherited | {"PYTHONPATH": os.pathsep.join(paths), "REPLY_SECONDS": str(reply_seconds)}


@contextmanager
def started(strategy: Strategy, reply_seconds: float) -> Iterator[Running]:
    """Run a strategy's program while the block runs.

    Raises:
        CannotRun: it ended before it served, or did not serve in time.
    """
    with (
        Printed() as printed,
        child(
            *strategy.command,
            grace=STOPPING,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env=environment(reply_seconds),
        ) as process,
    ):
        running = Running(process, printed)
        running.wait_until_serving()
        yield running
