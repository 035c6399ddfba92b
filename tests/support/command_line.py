"""The command line as a user has it: a process with two streams, real signals and an exit code.

Rules of this file
  1. Everything runs in a directory of the test's own, where the test writes its applications.
  2. A line is waited for, never slept for; each wait has a limit, scaled by
     GREEN_ROUTER_TEST_PATIENCE.
  3. What a test started ends with it.
"""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

import green_router
from green_router.testing import PATIENCE

LIMIT_SECONDS = 30 * PATIENCE
"""How long one step may take before the test gives up."""

COMMAND = (sys.executable, "-m", "green_router")


class Stream:
    """The lines of one of a process's streams, read as they come."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.lines: list[str] = []
        self._pipe = pipe
        self._came: queue.SimpleQueue[str | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        with self._pipe:
            for line in self._pipe:
                self._came.put(line.decode(errors="backslashreplace").rstrip("\r\n"))
        self._came.put(None)

    def until(self, *texts: str) -> str:
        """Return the next line that contains one of these texts. **Blocks** until it comes."""
        while True:
            try:
                line = self._came.get(timeout=LIMIT_SECONDS)
            except queue.Empty:
                raise AssertionError(f"none of {texts} came, only {self.lines}") from None
            assert line is not None, f"the stream ended without any of {texts}: {self.lines}"
            self.lines.append(line)
            if any(text in line for text in texts):
                return line

    def rest(self) -> list[str]:
        """Return all its lines, once it has ended."""
        self._thread.join(LIMIT_SECONDS)
        assert not self._thread.is_alive(), f"the stream does not end: {self.lines}"
        while not self._came.empty():
            line = self._came.get()
            if line is not None:
                self.lines.append(line)
        return self.lines


class Running:
    """A command that runs; ``out`` and ``err`` are its Streams."""

    def __init__(
        self,
        command: tuple[str, ...],
        cwd: Path,
        env: dict[str, str],
        pass_fds: tuple[int, ...] = (),
    ) -> None:
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env=env,
            pass_fds=pass_fds,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self.process.stdout
        assert self.process.stderr
        self.out, self.err = Stream(self.process.stdout), Stream(self.process.stderr)

    def endpoint(self) -> str:
        """Return the next endpoint that it says it serves."""
        return self.out.until("serving on").split()[-1]

    def ends(self) -> int:
        """Return its exit code. **Blocks** until it has ended."""
        try:
            return self.process.wait(LIMIT_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise AssertionError(
                f"it did not end, and said {self.out.rest()} and {self.err.rest()}"
            ) from None


class CommandLine:
    """Runs ``green-router`` in one directory. Attributes: command, how it is called; env, what it
    finds there."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.command = COMMAND
        package = str(Path(green_router.__file__).parents[1])
        self.env = os.environ | {
            "PYTHONPATH": package,
            "PYTHONWARNINGS": "error",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        self._running: list[Running] = []

    def write(self, name: str, text: str) -> Path:
        """Write a file of an application."""
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def run(
        self, *arguments: str | bytes, stdin: bytes = b""
    ) -> subprocess.CompletedProcess[bytes]:
        """Run a command to its end."""
        return subprocess.run(
            [*self.command, *arguments],
            cwd=self.directory,
            env=self.env,
            input=stdin,
            capture_output=True,
            timeout=LIMIT_SECONDS,
            check=False,
        )

    def start(self, *arguments: str) -> Running:
        """Start a command that goes on."""
        running = Running((*self.command, *arguments), self.directory, self.env)
        self._running.append(running)
        return running

    def close(self) -> None:
        """End what still runs."""
        for running in self._running:
            running.process.kill()
            running.process.wait()
            running.out.rest()
            running.err.rest()
