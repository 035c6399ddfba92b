"""Processes that do one call each at a time, and the native threads that speak to them.

Rules of this file
  1. Each thread has one process, started by exec when it has its first call, and again when that
     has ended. The thread blocks in its socket, so 20 MB stop nobody: the largest piece of work
     that holds the interpreter is a copy of that.
  2. A process that ends takes its call with it, which fails and says how it ended; the next call
     starts another.
  3. Nothing outlives this process: child.py, rule 3. ``shutdown`` ends those that are left, and
     buries them.
"""

from __future__ import annotations

import _socket
import errno
import os
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from gevent.monkey import get_original

from ..errors import OffloadFailed
from . import child
from .future import OffloadFuture
from .threads import Threads

posix_spawn = get_original("os", "posix_spawn")
sleep = get_original("time", "sleep")
waitpid = get_original("os", "waitpid")

END_BY_ITSELF = 0.5
"""Seconds that a process without a call has to end."""

PROGRAM = str(Path(child.__file__))


class RemoteTraceback(Exception):
    """The cause of an error that came from another process: its traceback there."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Process:
    """A process that runs child.py, and the socket to it. Raises OSError where it cannot be
    started.

    It is made in a native thread that lives as long: the kernel ends the process with that.

    Args:
        arguments: of the program.
    Attributes:
        pid: of the process.
        socket: a blocking one, that nothing has patched.
    """

    def __init__(self, *arguments: str) -> None:
        self.socket, theirs = _socket.socketpair()
        try:
            self.pid = posix_spawn(
                sys.executable,
                [sys.executable, *subprocess._args_from_interpreter_flags(), PROGRAM, *arguments],  # type: ignore[attr-defined]
                os.environ,
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
            )
        except BaseException:
            self.socket.close()
            raise
        finally:
            theirs.close()
        main: Any = sys.modules.get("__main__")
        path = [entry for entry in sys.path if isinstance(entry, str)]
        with suppress(OSError):  # it has ended: that is noticed next
            child.write(
                self.socket,
                0,
                child.pack(({"path": path, "main": getattr(main, "__file__", None)},)),
            )

    def bury(self, seconds: float = 0.0) -> str:
        """End it, and return how it ended, as the end of a sentence. **Blocks** the thread.

        Args:
            seconds: how long it has to end by itself.
        """
        self.hang_up()
        self.socket.close()
        until = monotonic() + seconds
        with suppress(ChildProcessError):
            while (
                monotonic() < until
                and os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None
            ):
                sleep(0.005)
        with suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)  # where it has ended already, that changes nothing
        try:
            code = os.waitstatus_to_exitcode(waitpid(self.pid, 0)[1])
        except ChildProcessError:  # somebody else has waited for all children
            return "ended"
        return (
            f"was killed by {signal.Signals(-code).name}"
            if code < 0
            else f"ended with exit code {code}"
        )

    def hang_up(self) -> None:
        """ANY THREAD. Whoever waits for it stops waiting."""
        with suppress(OSError):
            self.socket.shutdown(_socket.SHUT_RDWR)


def call_of(future: OffloadFuture) -> list[list[Any]] | None:
    """Return the message for a call; None where it cannot be pickled: then it has failed."""
    try:
        return _pickled(future)
    except BaseException as error:
        words = f"cannot be called elsewhere: {type(error).__name__}: {error}"
        future.settle(None, OffloadFailed(f"{name_of(future)} {words}"))
        return None


def name_of(future: OffloadFuture) -> str:
    """Return the name of what is called, for messages."""
    return getattr(future.function, "__qualname__", "a call")


def not_started(future: OffloadFuture, error: OSError) -> None:
    """Let a call fail, because no process could be started for it."""
    future.settle(
        None, OffloadFailed(f"no process could be started for {name_of(future)}: {error.strerror}")
    )


def _pickled(future: OffloadFuture) -> list[list[Any]]:
    function: Any = future.function
    name = None
    if hasattr(function, "__qualname__"):
        named: Any = sys.modules.get(function.__module__)
        for part in function.__qualname__.split("."):
            named = getattr(named, part, None)
        if named is not function and getattr(named, "__wrapped__", None) is function:
            function, name = None, (function.__module__, function.__qualname__)
    return child.pack(
        (
            function,
            name,
            tuple(map(child.lifted, future.arguments)),
            {key: child.lifted(value) for key, value in future.named.items()},
        )
    )


def settle(future: OffloadFuture, parts: list[bytes | bytearray]) -> None:
    """Settle a future with what the other process has said."""
    result = error = None
    try:
        match child.unpack(parts):
            case (True, result):
                pass
            case (False, error, shown):
                error.__cause__ = RemoteTraceback(shown)
            case (None, text):
                error = OffloadFailed(text)
    except BaseException as broken:
        error = OffloadFailed(
            f"its result cannot be unpickled here: {type(broken).__name__}: {broken}"
        )
    future.settle(result, error)


class Processes(Threads):
    """An executor of so many processes, unpatched, each with a native thread here.

    Args:
        count: of the processes, at the most.
    """

    def __init__(self, count: int) -> None:
        super().__init__(count)
        self._processes: dict[int, Process] = {}

    def _do(self, number: int, future: OffloadFuture) -> None:
        what, parts = name_of(future), call_of(future)
        if parts is None:
            return
        try:
            process = self._processes.get(number) or self._start(number)
        except OSError as error:
            not_started(future, error)
            return
        answer = None
        try:
            with suppress(BrokenPipeError, ConnectionResetError):  # it has ended: reading tells
                child.write(process.socket, 0, parts)
            del parts
            _, answer = child.read(process.socket)
        except (EOFError, OSError) as error:
            if isinstance(error, OSError) and error.errno not in (
                errno.ECONNRESET,
                errno.EPIPE,
                errno.EBADF,
            ):
                raise
        if answer is None:
            del self._processes[number]
            how = process.bury()
            why = (
                "the executor was shut down"
                if self._closed
                else f"process {process.pid}, which had it, {how}"
            )
            future.settle(None, OffloadFailed(f"{what} has no result: {why}"))
        else:
            settle(future, answer)

    def _start(self, number: int) -> Process:
        process = self._processes[number] = Process("processes")
        if self._closed:
            process.hang_up()
        return process

    def _leave(self, number: int) -> None:
        process = self._processes.pop(number, None)
        if process is not None:
            process.bury(END_BY_ITSELF)

    def _cut_off(self) -> None:
        for process in list(self._processes.values()):
            process.hang_up()

    def disarm(self) -> None:
        """In a forked child: the sockets are the parent's."""
        super().disarm()
        for process in self._processes.values():
            process.socket.close()
        self._processes.clear()
