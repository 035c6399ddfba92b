"""A worker process, from outside: started by exec, listened to, and its end explained.

Rules of this file
  1. Nothing forks into Python: the process is made by the C code of ``subprocess``, which execs at once. A hub, a
     ZeroMQ context and threads do not survive more than that.
  2. Its end is told once: after everything that it said has been heard, with the cause.
  3. It is in a session of its own, so that Ctrl-C reaches the supervisor alone, which decides.
"""
from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

from gevent.event import Event
from gevent.hub import get_hub
from gevent.monkey import get_original

from ..errors import ApplicationError, BindError, ConfigError, GreenRouterError
from .line import Line, Message

start_new_thread = get_original("_thread", "start_new_thread")

GONE_WITHIN = 1.0
"""Seconds between the end of a line and the end of the process, or the other way round, before one helps."""

STACKS_BYTES = 64 * 1024
"""What a pipe holds; more stacks than that are cut."""

COMMAND = ("-m", "green_router.processes.worker")


class Child:
    """One worker process. Belongs to the hub of the thread that made it.

    Args:
        number: of its slot.
        orders: what it is told first (worker.py).
        listeners: descriptors that it inherits.
        received: ``received(child, batch)``, in the hub.
        ended: ``ended(child)``, in the hub, once; ``cause`` is known then.
    Attributes:
        state: ``booting``, ``ready``, ``leaving`` or ``ended``.
        cause: why it ended, as the end of a sentence.
        failure: the error that kept it from booting.
        snapshot: the last of its ledger, where it keeps one.
        dismissed: whether it was told to end.
        asked_at: when it was asked whether its loop turns, if it has not answered.
    """

    def __init__(self, number: int, orders: dict[str, Any], listeners: Sequence[int],
                 received: Callable[[Child, list[Message]], None], ended: Callable[[Child], None]) -> None:
        self.number, self.state = number, "booting"
        self.cause = ""
        self.failure: GreenRouterError | None = None
        self.snapshot: dict[str, Any] | None = None
        self.asked_at: float | None = None
        self.dismissed = False
        self.started_at = monotonic()
        self.ready_at: float | None = None
        self.files: list[str] = []
        self.place: Any = None
        self._answered = Event()
        self._asked = 0
        self._received, self._tell_end = received, ended
        self._reason: str | None = None
        self._loop = get_hub().loop
        self._timer = self._loop.timer(0)
        self._memory_kills = memory_kills()
        self._code: int | None = None
        ours, theirs = socket.socketpair()
        self._stacks, stacks = os.pipe()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *COMMAND, str(theirs.fileno()), str(stacks), f"slot={number}"], stdin=subprocess.DEVNULL,
                pass_fds=(theirs.fileno(), stacks, *listeners), start_new_session=True)
        os.close(stacks)
        self.pid = self._process.pid
        self.line = Line(ours.detach(), self._hear, self._line_ended)
        self.line.send([("orders", orders)])
        start_new_thread(self._wait, ())

    def __repr__(self) -> str:
        return f"<worker {self.number} [{self.pid}] {self.state}>"

    # -- what it says ----------------------------------------------------------------------------------------------

    def _hear(self, batch: list[Message]) -> None:
        """HUB. Note what concerns the process itself, and pass all on."""
        for message in batch:
            match message:
                case ("pong", number, snapshot):
                    self.snapshot = snapshot or self.snapshot
                    if number == self._asked:
                        self.asked_at = None
                        self._answered.set()
                case ("bye", snapshot):
                    self.snapshot = snapshot or self.snapshot
                case ("failed", code, arguments, files):
                    self.files = files
                    kinds: dict[str, Callable[..., GreenRouterError]] = {
                        BindError.code: BindError, ConfigError.code: ConfigError}
                    self.failure = kinds.get(code, ApplicationError)(*arguments)
        self._received(self, batch)

    def ask(self) -> None:
        """Ask whether its loop turns, and for its ledger; what was asked before and not answered stands."""
        if self.asked_at is None:
            self._asked += 1
            self._answered.clear()
            self.asked_at = monotonic()
            self.line.send([("ping", self._asked)])

    def answers(self, seconds: float) -> bool:
        """Whether it answers within that time. **Blocks** the calling greenlet."""
        return bool(self._answered.wait(seconds))

    # -- its end ---------------------------------------------------------------------------------------------------

    def kill(self, number: int, reason: str | None = None) -> None:
        """Send it a signal. The reason is told as the cause."""
        self._reason = self._reason or reason
        if self._process.returncode is None:        # else the pid may be somebody else's by now
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def abort(self, reason: str) -> None:
        """Let it write its stacks and die; by force where it does not."""
        self.kill(signal.SIGABRT, reason)
        self._after(GONE_WITHIN, lambda: self.kill(signal.SIGKILL))

    def _wait(self) -> None:
        """A THREAD of its own, which needs no signals and no polling."""
        _, status = os.waitpid(self.pid, 0)
        self._process.returncode = code = os.waitstatus_to_exitcode(status)
        self._loop.run_callback_threadsafe(self._exited, code)

    def _exited(self, code: int) -> None:
        """HUB. Somebody that it forked may still hold the line open."""
        self._code = code       # here, not in the thread: the end of the line may come between, and both would end it
        if self.line.closed:
            self._end()
        else:
            self._after(GONE_WITHIN, self._close_line)

    def _close_line(self) -> None:
        if not self.line.closed:
            self.line.close()
            self._end()

    def _line_ended(self) -> None:
        """HUB. All that it said has been heard."""
        if self._code is not None:
            self._end()
        else:
            self._after(GONE_WITHIN, lambda: self.kill(signal.SIGKILL, "closed its line to the supervisor"))

    def _after(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer.close()
        self._timer = self._loop.timer(seconds)
        self._timer.start(action)

    def _end(self) -> None:
        self._timer.close()
        self.state = "ended"
        self.cause = self._explain()
        os.set_blocking(self._stacks, False)
        try:
            stacks = os.read(self._stacks, STACKS_BYTES).decode(errors="backslashreplace").rstrip()
        except BlockingIOError:
            stacks = ""
        os.close(self._stacks)
        self.stacks = stacks
        self._answered.set()
        self._tell_end(self)

    def _explain(self) -> str:
        assert self._code is not None
        if self._code >= 0:
            how = f"ended with exit code {self._code}"
        else:
            try:
                how = f"was killed by {signal.Signals(-self._code).name}"
            except ValueError:
                how = f"was killed by signal {-self._code}"
            if -self._code == signal.SIGKILL and self._reason is None and memory_kills() > self._memory_kills:
                how += ", most likely because the machine ran out of memory"
        return f"{self._reason} and {how}" if self._reason else how


def memory_kills() -> int:
    """How many processes the kernel has killed for want of memory, as far as it tells."""
    with suppress(OSError, ValueError):
        for line in Path("/proc/vmstat").read_text(encoding="ascii").splitlines():
            if line.startswith("oom_kill "):
                return int(line.split()[1])
    return 0
