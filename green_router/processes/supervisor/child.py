"""A worker process, from outside: started by exec, listened to, and its end explained.

Rules of this file
  1. Nothing forks into Python: the process is made by the C code of ``subprocess``, which execs at
     once. A hub, a ZeroMQ context and threads do not survive more than that.
  2. Its end is told once: after everything that it said has been heard, with the cause. That it
     takes no more work is told as soon as it is known.
  3. It is in a session of its own, so that Ctrl-C reaches the supervisor alone, which decides.
  4. It has one timer: for what comes next if it does not do it by itself. Once it is being ended by
     force, or has ended, nothing else comes next.
"""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from gevent.event import Event
from gevent.hub import get_hub
from gevent.monkey import get_original

from ...errors import ApplicationError, BindError, ConfigError, GreenRouterError
from .. import stacks
from ..channel import protocol
from ..channel.protocol import Message, Routes
from ..channel.stream import Channel
from ..front.backend import Backend
from .process import ending, memory_kills

start_new_thread = get_original("_thread", "start_new_thread")

GONE_WITHIN = 1.0
"""Seconds between the end of a channel and the end of the process, or the other way round, before
one helps."""

LEAVE_WITHIN = 5.0
"""Seconds that a worker with nothing in hand has to end: the application's own ends (atexit,
threads)."""

HURRY_WITHIN = 2.0
"""The same when all shall end at once."""

KILLED_WITHIN = 10.0
"""Seconds that the kernel has to end a process by SIGKILL. It does at once, unless the process is
in a call that cannot be interrupted: a file system that hangs. Then it is left behind, and its
place is free."""

ASKED_WITHIN = 0.2
"""Seconds that a worker which boots has to say what it waits for."""

PROGRAM = str(Path(__file__).parents[1].joinpath("worker", "main.py"))
"""By its path: ``python -m`` would look for the modules of the standard library in the current
directory first."""


class ChildObserver(Protocol):
    """The object that has started a child, and is told of it. All calls are made in the hub."""

    def ready(self, child: Child, files: list[str]) -> None:
        """The child has booted; these are the application's source files."""

    def files_loaded(self, child: Child, files: list[str]) -> None:
        """The child has loaded these too."""

    def recycle(self, child: Child) -> None:
        """The child wants to be replaced."""

    def stirred(self, child: Child) -> None:
        """From now on its loop should turn."""

    def going(self, child: Child) -> None:
        """The child takes no more work. Called once, before ``ended``."""

    def ended(self, child: Child) -> None:
        """The child has ended; ``cause`` is known. Called once."""


class Child:
    """One worker process. Belongs to the hub of the thread that made it.

    Args:
        number: of its slot.
        config: what it is told first (worker/main.py).
        listeners: descriptors that it inherits.
        boot_timeout: seconds until it must have booted; None for any time.
        observer: is told what happens.
    Raises:
        OSError: it cannot be started; nothing is left open.
    Attributes:
        state: ``booting``, ``ready``, ``leaving`` or ``ended``.
        cause: why it ended, as the end of a sentence.
        failure: the error that kept it from booting.
        stacks: those of its threads, where a fatal signal ended it.
        snapshot: the last of its ledger, where it keeps one.
        dismissed: whether it was told to end.
        worn: whether it is to be replaced.
        aborted: whether it is being ended because its loop does not turn.
        memory_kills: how many processes the kernel had killed for want of memory, this one not
            among them, when it was last heard.
        starved: whether this one was, most likely.
        asked_at: when it was asked whether its loop turns, if it has not answered.
        stirs: whether its loop should turn; it says when that rests (activity.py).
        gone: whether it takes no more work.
        backend: what it has in hand, where requests are handed to it.
        routes: who takes what it says.
    """

    def __init__(
        self,
        number: int,
        config: dict[str, Any],
        listeners: Sequence[int],
        boot_timeout: float | None,
        observer: ChildObserver,
    ) -> None:
        self.number, self.state = number, "booting"
        self.cause = self.stacks = ""
        self.failure: GreenRouterError | None = None
        self.snapshot: dict[str, Any] | None = None
        self.asked_at: float | None = None
        self.dismissed = self.worn = self.aborted = self.starved = False
        self.started_at = monotonic()
        self.ready_at: float | None = None
        self.files: list[str] = []
        self.backend: Backend | None = None
        self._observer = observer
        self._answered = Event()
        self._asked = 0
        self.stirs = self._again = self.gone = False
        self._reason: str | None = None
        self._leave_within = LEAVE_WITHIN
        self._loop = get_hub().loop
        self._timer = self._loop.timer(0)
        self.memory_kills = memory_kills()
        self._code: int | None = None
        self.routes = Routes(
            protocol.ready.to(partial(observer.ready, self)),
            protocol.failed.to(self._failed),
            protocol.files_loaded.to(partial(observer.files_loaded, self)),
            protocol.pong.to(self._pong),
            protocol.idle.to(self._idle),
            protocol.active.to(self._stir),
            protocol.counted.to(self._note),
            protocol.recycle.to(partial(observer.recycle, self)),
            protocol.closing.to(self._go),
            protocol.bye.to(self._bye),
        )
        self._take: Callable[[list[Message]], None] = self.routes.take_all
        self._launch(listeners)
        self.channel.send([protocol.boot(config)])
        if boot_timeout is not None:
            self.after(
                boot_timeout,
                partial(self._boots_too_long, f"had not booted after {boot_timeout:g} s"),
            )

    def _launch(self, listeners: Sequence[int]) -> None:
        with ExitStack() as stack:
            ours, theirs = map(stack.enter_context, socket.socketpair())
            self._stacks = stacks.make()
            with ExitStack() as unless_it_runs:
                unless_it_runs.callback(os.close, self._stacks)
                self._process = subprocess.Popen(
                    [
                        sys.executable,
                        *interpreter_options(),
                        PROGRAM,
                        str(theirs.fileno()),
                        str(self._stacks),
                        f"slot={self.number}",
                    ],
                    stdin=subprocess.DEVNULL,
                    pass_fds=(theirs.fileno(), self._stacks, *listeners),
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
            self.channel = Channel(ours.detach(), self._hear, self._channel_ended)

    def __repr__(self) -> str:
        return f"<worker {self.number} [{self.pid}] {self.state}>"

    # -- what it says ------------------------------------------------------------------------------

    def _hear(self, batch: list[Message]) -> None:
        """HUB."""
        self._take(batch)

    def employ(self, backend: Backend, take: Callable[[list[Message]], None]) -> None:
        """From now on requests are handed to it.

        Args:
            backend: what it has in hand.
            take: ``take(batch)``, called with what it says, for ``routes`` and for the answers to
                requests.
        """
        self.backend, self._take = backend, take

    def _pong(self, number: int, snapshot: dict[str, Any] | None) -> None:
        self._note(snapshot)
        if number == self._asked:
            self.asked_at = None
            self._answered.set()

    def _idle(self) -> None:
        self.stirs = self._again

    def _bye(self, snapshot: dict[str, Any] | None) -> None:
        self._note(snapshot)
        self._go()
        self.after(self._leave_within, partial(self.kill, signal.SIGKILL, "did not end in time"))

    def _failed(self, code: str, arguments: tuple[Any, ...], files: list[str]) -> None:
        self.files = files
        kinds: dict[str, Callable[..., GreenRouterError]] = {
            BindError.code: BindError,
            ConfigError.code: ConfigError,
        }
        self.failure = kinds.get(code, ApplicationError)(*arguments)

    def _note(self, snapshot: dict[str, Any] | None) -> None:
        self.memory_kills = memory_kills()
        if snapshot is not None:
            self.snapshot = snapshot

    def stir(self) -> None:
        """HUB. Something was done to it: until it is asked again, what it says of its rest may be
        older."""
        self._again = True
        self._stir()

    def _stir(self) -> None:
        if not self.stirs:
            self.stirs = True
            self._observer.stirred(self)

    def booted(self, files: list[str]) -> None:
        """The child is ready; these are the application's source files."""
        if not self._ending:
            self._timer.close()
        self.state, self.ready_at, self.files = "ready", monotonic(), files
        self.stir()

    @property
    def lived(self) -> float:
        """For how many seconds it has been ready."""
        return monotonic() - self.ready_at if self.ready_at is not None else 0.0

    def ask(self) -> None:
        """Ask whether its loop turns, and for its ledger; what was asked before and not answered
        stands."""
        if self.asked_at is None:
            self._asked += 1
            self._again = False
            self._answered.clear()
            self.asked_at = monotonic()
            self.channel.send([protocol.ping(self._asked)])

    def answers(self, seconds: float) -> bool:
        """True if it answers within that time. **Blocks** the calling greenlet."""
        return bool(self._answered.wait(seconds))

    # -- its end -----------------------------------------------------------------------------------

    def dismiss(self, seconds: float, work: float) -> None:
        """Tell it to end, and see to it. A second call may shorten the time.

        Args:
            seconds: for what it has in hand; 0 for at once.
            work: how long that may take, with what is sent last; then it has as long again as one
                with nothing in hand.
        """
        self.state, self.dismissed = "leaving", True
        self._leave_within = HURRY_WITHIN if seconds == 0 else LEAVE_WITHIN
        self.channel.send([protocol.stop(seconds)])
        self.after(
            work + self._leave_within, partial(self.kill, signal.SIGKILL, "did not end in time")
        )

    def kill(self, number: int, reason: str | None = None) -> None:
        """Send it a signal, if it has not ended. The reason is told as the cause."""
        self._reason = self._reason or reason
        if self._code is None and self.state != "ended":  # until then the pid is its own, see _wait
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)
            if number == signal.SIGKILL:
                self._set_timer(KILLED_WITHIN, self._leave_behind)

    def abort(self, reason: str) -> None:
        """Let it write its stacks and die; by force where it does not."""
        if not self.aborted:
            self.aborted = True
            self.kill(signal.SIGABRT, reason)
            self._set_timer(GONE_WITHIN, partial(self.kill, signal.SIGKILL))

    def _boots_too_long(self, reason: str) -> None:
        """HUB. Ask for its stacks first: an import that waits in a greenlet is on no thread's
        stack."""
        self.channel.send([protocol.where()])
        self.after(ASKED_WITHIN, partial(self.abort, reason))

    def after(self, seconds: float, action: Callable[[], None]) -> None:
        """Do this in the hub, unless it has ended by then, something else comes next, or its end
        has begun."""
        if not self._ending:
            self._set_timer(seconds, action)

    @property
    def _ending(self) -> bool:
        return self.aborted or self._code is not None

    def _set_timer(self, seconds: float, action: Callable[[], None]) -> None:
        self._timer.close()
        self._timer = self._loop.timer(seconds)
        self._timer.start(action)

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
                    self._loop.run_callback_threadsafe(self.stir)
            else:  # macOS before Python 3.13: there it could
                self._process.wait()
        self._loop.run_callback_threadsafe(self._exited)

    def _exited(self) -> None:
        """HUB. Somebody that it forked may still hold the channel open."""
        self._code = self._process.wait()
        if self.state == "ended":  # it was left behind
            return
        self._go()
        if self.channel.closed:
            self._end()
        else:
            self._set_timer(GONE_WITHIN, self._close_channel)

    def _close_channel(self) -> None:
        if not self.channel.closed:
            self.channel.close()
            self._end()

    def _channel_ended(self) -> None:
        """HUB. All that it said has been heard."""
        self._go()
        if self._code is not None:
            self._end()
        else:
            self.after(
                GONE_WITHIN,
                partial(self.kill, signal.SIGKILL, "closed its channel to the supervisor"),
            )

    def _leave_behind(self) -> None:
        """HUB. Give up a process that SIGKILL does not end, or whose end was not told."""
        self._code = self._process.poll()
        self._go()
        self.channel.close()
        self._end()

    def _go(self) -> None:
        if not self.gone:
            self.gone = True
            self._observer.going(self)

    def _end(self) -> None:
        self._timer.close()
        self.state = "ended"
        self.cause = self._explain()
        self.stacks = stacks.read(self._stacks)
        os.close(self._stacks)
        self._answered.set()
        self._observer.ended(self)

    @property
    def killed(self) -> bool:
        """True if another process has ended it: a signal that neither we sent nor a process sends
        itself by a mistake."""
        return self._reason is None and self._code in (-signal.SIGKILL, -signal.SIGTERM)

    def _explain(self) -> str:
        if self._code is None:
            how = "does not end, although it was sent SIGKILL"
        else:
            how = ending(self._code)
            self.starved = (
                self._code == -signal.SIGKILL
                and self._reason is None
                and memory_kills() > self.memory_kills
            )
            if self.starved:
                how += ", most likely because memory has run out"
        return f"{self._reason} and {how}" if self._reason else how


def interpreter_options() -> list[str]:
    """Return the options of this Python, for another one: ``-O``, ``-W``, ``-X``, ``-I`` and their
    like."""
    options: list[str] = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
    return options  # as multiprocessing does, which has no public way either
