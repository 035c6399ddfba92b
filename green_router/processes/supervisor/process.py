"""The process of a worker, from outside: started by exec, ended by signals, and its end explained.

Rules of this file
  1. Nothing forks into Python: the process is made by the C code of ``subprocess``, which execs at
     once. A hub, a ZeroMQ context and threads do not survive more than that.
  2. It is in a session of its own, so that Ctrl-C reaches the supervisor alone, which decides.
  3. It has one timer: for what comes next if it does not do it by itself. Once it is being ended by
     force, or has ended, nothing else comes next.
  4. The kernel counts the processes that it kills because memory has run out, but does not say
     whose they are: what was counted when a process was last heard is compared with what is counted
     at its end. The counter that is nearest is read: that of this process's control group, in which
     other services do not count; where there is none, that of the machine.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

from gevent.hub import get_hub
from gevent.monkey import get_original

from .. import stacks

start_new_thread = get_original("_thread", "start_new_thread")

STACKS_WITHIN = 1.0
"""Seconds that a process has to write its stacks before it is killed."""

KILLED_WITHIN = 10.0
"""Seconds that the kernel has to end a process by SIGKILL. It does at once, unless the process is
in a call that cannot be interrupted: a file system that hangs. Then it is left behind, and its slot
is free."""

PROGRAM = str(Path(__file__).parents[1].joinpath("worker", "main.py"))
"""By its path: ``python -m`` would look for the modules of the standard library in the current
directory first."""

ROOT = Path("/")
"""Where proc and sys are."""

WORD = "oom_kill"
"""Before the number, in each of the files that have it."""


class WorkerProcess:
    """A process that runs the program of a worker. Belongs to the hub of the thread that made it.

    Args:
        slot: of the worker; in the command line, for ``ps``.
        inherited: descriptors that it has too.
        stopped: ``stopped()``, in the hub: somebody has sent it SIGSTOP.
        ended: ``ended()``, in the hub, once: it has ended, or it is given up.
    Raises:
        OSError: it cannot be started; nothing is left open.
    Attributes:
        pid: its process id.
        channel_fd: this process's end of its channel; the caller closes it.
        ended: whether it has ended, or was given up.
        cause: why, as the end of a sentence.
        stacks: those of its threads, where a fatal signal ended it.
        out_of_memory: whether the kernel has killed it for want of memory, most likely.
    """

    def __init__(
        self,
        slot: int,
        inherited: Sequence[int],
        stopped: Callable[[], None],
        ended: Callable[[], None],
    ) -> None:
        self._stopped, self._tell_ended = stopped, ended
        self.ended = self.out_of_memory = self._forced = False
        self.cause = self.stacks = ""
        self._code: int | None = None
        self._reason: str | None = None
        self._loop = get_hub().loop
        self._timer = self._loop.timer(0)
        self._memory_kills = memory_kills()
        self._exec(slot, inherited)

    def _exec(self, slot: int, inherited: Sequence[int]) -> None:
        with ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            self._stacks_fd = stacks.make()
            with ExitStack() as unless_it_runs:
                unless_it_runs.callback(os.close, self._stacks_fd)
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        *interpreter_options(),
                        PROGRAM,
                        str(theirs.fileno()),
                        str(self._stacks_fd),
                        f"slot={slot}",
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), self._stacks_fd, *inherited),
                    start_new_session=True,
                )
                self.pid = self._process.pid
                try:
                    start_new_thread(self._wait, ())
                except RuntimeError as error:
                    self._process.kill()
                    self._process.wait()
                    raise OSError(errno.EAGAIN, str(error)) from None
                unless_it_runs.pop_all()
            self.channel_fd = ours.detach()

    # -- what comes next ---------------------------------------------------------------------------

    @property
    def ending(self) -> bool:
        """True if it has ended, or is being ended by force."""
        return self._forced or self.ended

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this in the hub, unless it has ended by then, something else comes next, or its end
        has begun."""
        if not self.ending:
            self._set_timer(seconds, action)

    def cancel(self) -> None:
        """Cancel what comes next: it has done what it should. Not where its end has begun."""
        if not self.ending:
            self._timer.close()

    def _set_timer(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer.close()
        self._timer = self._loop.timer(seconds)
        self._timer.start(action)

    # -- signals -----------------------------------------------------------------------------------

    def kill(self, reason: str | None = None) -> None:
        """End it by SIGKILL, if it has not ended. The first reason is told as the cause."""
        if not self.ended:
            self._force(signal.SIGKILL, reason)
            self._set_timer(KILLED_WITHIN, self._leave_behind)

    def abort(self, reason: str) -> None:
        """Let it write its stacks and die; by SIGKILL where it does not. Once its end has begun
        this does nothing."""
        if not self.ending:
            self._force(signal.SIGABRT, reason)
            self._set_timer(STACKS_WITHIN, self.kill)

    def _force(self, number: int, reason: str | None) -> None:
        """Send it a signal. It has not ended: so the pid is its own (see _wait)."""
        self._forced, self._reason = True, self._reason or reason
        with suppress(ProcessLookupError):
            os.kill(self.pid, number)

    # -- its end -----------------------------------------------------------------------------------

    def _wait(self) -> None:
        """A THREAD of its own, which needs no signals and no polling.

        The dead process stays in the kernel's table until the hub, which alone sends signals, has
        seen its end: so no signal can reach another process that got the same pid.
        """
        with suppress(ChildProcessError):  # SIGCHLD is ignored: the kernel keeps nothing
            if hasattr(os, "waitid"):
                while (
                    state := os.waitid(os.P_PID, self.pid, os.WEXITED | os.WSTOPPED | os.WNOWAIT)
                ) and (state.si_code == os.CLD_STOPPED):
                    # So that it is told once.
                    os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG)
                    self._loop.run_callback_threadsafe(self._stopped)
            else:  # macOS before Python 3.13: there it could
                self._process.wait()
        self._loop.run_callback_threadsafe(self._exited)

    def _exited(self) -> None:
        """HUB."""
        self._code = self._process.wait()
        if not self.ended:  # else it was left behind
            self._end(exit_words(self._code))

    def _leave_behind(self) -> None:
        """HUB. Give up a process that SIGKILL does not end, or whose end was not told."""
        self._code = self._process.poll()
        self._end(
            "does not end, although it was sent SIGKILL"
            if self._code is None
            else exit_words(self._code)
        )

    def _end(self, how: str) -> None:
        self.ended = True
        self._timer.close()
        self.out_of_memory = (
            self._code == -signal.SIGKILL
            and self._reason is None
            and memory_kills() > self._memory_kills
        )
        if self.out_of_memory:
            how += ", most likely because memory has run out"
        self.cause = f"{self._reason} and {how}" if self._reason else how
        self.stacks = stacks.read(self._stacks_fd)
        os.close(self._stacks_fd)
        self._tell_ended()

    @property
    def killed(self) -> bool:
        """True if another process has ended it: a signal that neither we sent nor a process sends
        itself by a mistake."""
        return self._reason is None and self._code in (-signal.SIGKILL, -signal.SIGTERM)

    # -- want of memory ----------------------------------------------------------------------------

    def heard(self) -> None:
        """Note that it is alive: what the kernel has killed so far was something else."""
        self._memory_kills = memory_kills()

    def another_killed(self) -> None:
        """Note that the kernel has killed another process: that one is counted, too."""
        self._memory_kills += 1


def interpreter_options() -> list[str]:
    """Return the options of this Python, for another one: ``-O``, ``-W``, ``-X``, ``-I`` and their
    like."""
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return options  # as multiprocessing does, which has no public way either


def exit_words(code: int) -> str:
    """Return how a process ended, as the end of a sentence.

    Args:
        code: its exit code; minus the number of the signal that killed it, as ``subprocess`` has
            it.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"was killed by signal {-code}"


def memory_kills() -> int:
    """How many processes have been killed so, as far as the kernel tells: 0 where it does not."""
    for path in _counters():
        with suppress(OSError, ValueError):
            for line in path.read_text(encoding="ascii").splitlines():
                word, _, number = line.partition(" ")
                if word == WORD:
                    return int(number)
    return 0


def _counters() -> Iterator[Path]:
    """The files that may have it, nearest first: cgroup v2 and v1, each also as a container sees
    its own."""
    groups = ROOT / "sys/fs/cgroup"
    with suppress(OSError):
        for line in (ROOT / "proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield groups / path.lstrip("/") / "memory.events"
                yield groups / "memory.events"
            elif "memory" in controllers.split(","):
                yield groups / "memory" / path.lstrip("/") / "memory.oom_control"
                yield groups / "memory/memory.oom_control"
    yield ROOT / "proc/vmstat"
