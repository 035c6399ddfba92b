"""Programs that a test starts as a user would: by a command line, in a terminal that shows what
they print.

Rules of this file
  1. A program is a real process; a line that it prints is waited for, never slept for.
  2. Standard output and standard error come to the same screen, as in a terminal: a warning or a
     traceback is a line.
  3. Every wait has a limit, scaled by GREEN_ROUTER_TEST_PATIENCE, and says what it waited for when
     it is reached.
  4. Leaving a terminal ends its programs: SIGTERM, and SIGKILL for one that does not go.
  5. The programs run the green_router that the tests import, and their warnings are errors.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from types import TracebackType

import green_router
from green_router.testing import PATIENCE

ROOT = Path(__file__).parents[2]


PROGRAMS = {"python": [sys.executable], "green-router": [sys.executable, "-m", "green_router"]}
"""Those of the interpreter that runs the tests."""


class Program:
    """A process, and what the terminal has read from it.

    Attributes:
        command: the command line as it was given.
        process: the ``subprocess.Popen``.
        lines: what it has printed.
        ended: whether all it printed has been read.
    """

    def __init__(
        self, command: list[str], screen: queue.SimpleQueue[tuple[Program, str | None]]
    ) -> None:
        self.command = " ".join(command)
        self.lines: list[str] = []
        self.ended = False
        self.process = subprocess.Popen(
            [*PROGRAMS.get(command[0], command[:1]), *command[1:]],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=_environment(),
        )
        self._screen = screen
        self._reader = threading.Thread(
            target=self._read, name=f"reads {self.command}", daemon=True
        )
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._screen.put((self, line.rstrip("\n")))
        self._screen.put((self, None))

    def close(self) -> int:
        """End it if it runs, and return its exit code. **Blocks** until it has ended."""
        self.process.terminate()
        try:
            code = self.process.wait(10 * PATIENCE)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()
        return code


class Terminal:
    """A screen, and the programs that print on it."""

    def __init__(self) -> None:
        self.programs: list[Program] = []
        self._screen: queue.SimpleQueue[tuple[Program, str | None]] = queue.SimpleQueue()

    def start(self, *command: str) -> Program:
        """Start a program; ``python`` means the interpreter that runs the tests."""
        program = Program(list(command), self._screen)
        self.programs.append(program)
        return program

    def serve(self, *command: str) -> tuple[Program, str]:
        """Start a server, and return it with the endpoint that it prints. **Blocks** until it has
        printed one."""
        program = self.start(*command)
        while not program.lines:
            self.read(f"endpoint of {program.command}")
            assert not program.ended, self.screen
        return program, program.lines[0].split()[-1]

    def read(self, what: str, seconds: float = 30) -> tuple[Program, str | None]:
        """Return the program that printed the next line, and the line; None when that program has
        ended.

        **Blocks** until there is one.

        Raises:
            AssertionError: nothing came within that time.
        """
        try:
            program, line = self._screen.get(timeout=seconds * PATIENCE)
        except queue.Empty:
            raise AssertionError(
                f"no {what} within {seconds * PATIENCE:g} s\n{self.screen}"
            ) from None
        if line is None:
            program.ended = True
        else:
            program.lines.append(line)
        return program, line

    @property
    def screen(self) -> str:
        """All that was printed, by program."""
        return "\n".join(
            "\n".join([f"$ {program.command}", *program.lines]) for program in self.programs
        )

    def close(self) -> None:
        """End all programs, the last one first."""
        for program in reversed(self.programs):
            program.close()

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self.close()


def _environment() -> dict[str, str]:
    paths = [
        str(Path(green_router.__file__).parent.parent),
        *filter(None, [os.environ.get("PYTHONPATH")]),
    ]
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths), "PYTHONWARNINGS": "error"}
