"""Processes that a command starts to measure them: none outlives the command, and what one costs is
known.

Rules of this file
  1. Whatever ends the block (its end, an error, Ctrl-C, a signal whose handler raises) ends the
     process and all that it has started. They are a session of their own: Ctrl-C reaches the
     command alone, which then ends the others, without their tracebacks.
  2. While a process is started or ended, signals wait: one whose handler raised just then would
     leave it behind.
  3. Where the command is killed itself, a watcher ends the process and what is in its group. It
     needs no /proc and no system call that only Linux has: a shell whose input ends with the
     command.
  4. What a process prints goes into a file that has no name: a pipe that nobody reads fills up and
     stops it.
  5. The cost is that of the process and of all below it.

What the watcher does not reach: what has left the process's group (the workers of a supervisor do,
and end by themselves when it is gone), and what was started in the moment before its watcher was.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from time import monotonic
from types import FrameType, TracebackType
from typing import Any, NoReturn

from ...hub.signals import heeded
from ...processes.supervisor.process import exit_words
from .cost import Usage

Process = subprocess.Popen[str]

WATCHER = ("/bin/sh", "-c", 'read -r word; kill -s KILL -- "-$0"')
"""Reads what nobody ever writes: reading ends when the command has, however it did. Its argument is
the group."""

ENDS_WITHIN = 5.0
"""Seconds from the end of what a process prints to its own end: it may have closed its output
alone."""

MAX_PRINTED_BYTES = 65_536
"""How much of what a process has printed is looked at."""

MAX_WORDS = 300
"""Characters of its last line that are repeated."""


@contextmanager
def child(*command: str, grace: float = 0.0, **options: Any) -> Iterator[Process]:
    """Run a process while the block runs.

    Args:
        command: what to start.
        grace: seconds that it has to end from SIGTERM to SIGKILL; with 0 there is no SIGTERM.
        options: as for subprocess.Popen.
    """
    with ExitStack() as stack:
        with _signals_wait():
            watched = stack.enter_context(ExitStack())  # left last
            process = stack.enter_context(
                subprocess.Popen(
                    command, text=True, errors="replace", start_new_session=True, **options
                )
            )
            stack.callback(_end, process, grace)
            watched.callback(
                _dismiss,
                subprocess.Popen(
                    [*WATCHER, str(process.pid)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                ),
            )
        yield process


def _dismiss(watcher: subprocess.Popen[bytes]) -> None:
    with _signals_wait(), watcher:
        watcher.kill()  # before its input ends, which would be its sign


def _end(process: Process, grace: float) -> None:
    with _signals_wait():
        below: dict[int, bytes | None] = {}
        try:
            # The workers of a supervisor have sessions of their own, so the group is not all. Those
            # below are remembered with the time when they began: should one end now, its number may
            # be given to another process.
            if process.poll() is None:
                below = {pid: _began(pid) for pid in family(process.pid)[1:]}
            if grace:
                process.terminate()
                with suppress(subprocess.TimeoutExpired):
                    process.wait(grace)
        finally:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pid, began in below.items():
                if began is not None and _began(pid) == began:
                    with suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)


def ending(process: Process) -> str:
    """How a process that says nothing more has ended, as the end of a sentence. **Blocks** until it
    has, or for a while."""
    try:
        code = process.wait(ENDS_WITHIN)
    except subprocess.TimeoutExpired:
        return "closed its output and goes on"
    return exit_words(code) + (" (as where memory runs out)" if -code == signal.SIGKILL else "")


class Lines:
    """The lines that a process prints into a pipe, each within a limit.

    Args:
        process: whose standard output is that pipe.
    """

    def __init__(self, process: subprocess.Popen[Any]) -> None:
        assert process.stdout
        self._output = process.stdout.fileno()
        self._said = b""

    def next(self, seconds: float) -> bytes | None:
        """Return its next line, or None where it prints no more. **Blocks**. Raises TimeoutError:
        none came within that time."""
        until = monotonic() + seconds
        come = select.poll()
        come.register(self._output, select.POLLIN)
        while b"\n" not in self._said:
            if not come.poll(1000 * max(0.0, until - monotonic())):
                raise TimeoutError
            more = os.read(self._output, 65536)
            if not more:
                return None
            self._said += more
        line, _, self._said = self._said.partition(b"\n")
        return line


class Printed:
    """The lines that a process prints: its standard output, error or both, by ``fileno``."""

    def __init__(self) -> None:
        self._file = tempfile.TemporaryFile("ab+")  # noqa: SIM115 - this object is the context manager
        self.fileno = self._file.fileno

    def lines(self) -> list[str]:
        """The lines at its end, with their line breaks; read without moving the position, which the
        process shares."""
        size = os.fstat(self.fileno()).st_size
        said = os.pread(self.fileno(), MAX_PRINTED_BYTES, max(0, size - MAX_PRINTED_BYTES))
        return said.decode(errors="replace").splitlines(keepends=True)

    def last_words(self) -> str:
        """The last line that is not empty, or nothing; the beginning of a long one."""
        return next(
            (line.strip()[:MAX_WORDS] for line in reversed(self.lines()) if line.strip()), ""
        )

    def __enter__(self) -> Printed:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        self._file.close()


def leave_on_signals() -> None:
    """Let SIGTERM and SIGHUP leave every block of the command, with exit code 128 + number, unless
    they are ignored."""
    for number in heeded(signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _leave)


def _leave(number: int, _: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


def family(pid: int) -> list[int]:
    """The process and all below it, as far as the system tells."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*"):
        if fields := _stat(path.name):
            children.setdefault(int(fields[1]), []).append(int(path.name))
    members = [pid]
    for member in members:
        members += children.get(member, [])
    return members


def _began(pid: int) -> bytes | None:
    fields = _stat(pid)
    return fields[19] if fields else None


def _stat(pid: int | str) -> list[bytes]:
    """The fields of /proc/PID/stat from the state on; none if there is no such process."""
    try:
        # Bytes, because the name before them may be any: also one that is no text.
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return []


def cpu_seconds(process: Process) -> float | None:
    """CPU time that a child and all below it have used so far; None where the system does not
    say."""
    used = [Usage(pid).cpu_seconds for pid in family(process.pid)]
    return None if used[0] is None else sum(filter(None, used))


@contextmanager
def _signals_wait() -> Iterator[None]:
    came: list[int] = []
    handlers = {
        number: signal.signal(number, lambda number, _: came.append(number))
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for waiting in came:
            signal.raise_signal(waiting)
