"""A worker, as the supervisor knows it: what state it is in, what it has said, and what it is told.

Rules of this file
  1. Its state goes on in the order of ``State``, and is changed by its own methods alone.
  2. Its end is told once: after everything that it said has been heard, with the cause. That it
     takes no more work is told as soon as it is known.
  3. It is active, its loop should turn, from the moment at which it is given something or says so,
     until it says that it is idle (worker/activity.py). What it says of that may be older than
     what it was given: until it has been asked again it counts as active.

How its process is started and ended is in process.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum
from functools import partial
from time import monotonic
from typing import Any, Protocol

from gevent.event import Event
from gevent.hub import get_hub

from ...errors import ApplicationError, BindError, ConfigError, GreenRouterError
from ..channel import protocol
from ..channel.protocol import Message, Routes
from ..channel.stream import Channel
from ..front.backend import Backend
from .process import WorkerProcess

GONE_WITHIN = 1.0
"""Seconds between the end of a channel and the end of the process, or the other way round, before
one helps."""

LEAVE_WITHIN = 5.0
"""Seconds that a worker with nothing in hand has to end: the application's own ends (atexit,
threads)."""

HURRY_WITHIN = 2.0
"""The same when all shall end at once."""

ASKED_WITHIN = 0.2
"""Seconds that a worker which boots has to say what it waits for."""


class State(Enum):
    """The stages of a worker; some are left out."""

    BOOTING = "booting"
    READY = "ready"
    LEAVING = "leaving"
    """It was told to go, or is about to be told: it finishes what it has."""
    ENDED = "ended"
    """After it was told to go."""
    DIED = "died"
    """By itself."""


class ChildObserver(Protocol):
    """The object that has started a child, and is told of it. All calls are made in the hub."""

    def ready(self, child: Child, files: list[str]) -> None:
        """The child has booted; these are the application's source files."""

    def files_loaded(self, child: Child, files: list[str]) -> None:
        """The child has loaded these too."""

    def recycle(self, child: Child) -> None:
        """The child wants to be replaced."""

    def ended(self, child: Child) -> None:
        """The child has ended; ``process.cause`` is known. Called once."""


class Child:
    """One worker. Belongs to the hub of the thread that made it.

    Args:
        number: of its slot.
        config: what it is told first (worker/main.py).
        listeners: descriptors that it inherits.
        boot_timeout: seconds until it must have booted; None for any time.
        observer: is told what happens.
        activated: ``activated()``, in the hub: its loop should turn from now on.
        gets_requests: whether they are handed to it; elsewhere it serves clients itself.
        limit: of the requests that are handed to it, how many it may get before it is recycled;
            None for any number.
    Raises:
        OSError: it cannot be started; nothing is left open.
    Attributes:
        process: its process.
        pid: of that.
        channel: to it.
        state: its state.
        failure: the error that kept it from booting.
        files: the application's source files, as far as it has told.
        snapshot: the last of its ledger, where it keeps one.
        started_at, ready_at: when it was started, and when it had booted.
        active: whether its loop should turn.
        asked_at: when it was asked whether its loop turns, if it has not answered.
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
        activated: Callable[[], None],
        gets_requests: bool,
        limit: int | None,
    ) -> None:
        self.number, self.state = number, State.BOOTING
        self.failure: GreenRouterError | None = None
        self.files: list[str] = []
        self.snapshot: dict[str, Any] | None = None
        self.started_at = monotonic()
        self.ready_at: float | None = None
        self.asked_at: float | None = None
        self.active = self._active_since_asked = False
        self._asked, self._answered = 0, Event()
        self._observer, self._activated = observer, activated
        self._leave_within = LEAVE_WITHIN
        self._timer = get_hub().loop.timer(GONE_WITHIN)
        self.routes = self._routes(observer)
        self._take: Callable[[list[Message]], None] = self.routes.take_all
        self.process = WorkerProcess(number, listeners, self.keep_active, self._process_ended)
        self.pid = self.process.pid
        self.channel = Channel(self.process.channel_fd, self._hear, self._channel_ended)
        self.backend = (
            Backend(
                self.pid,
                self.channel,
                self.routes,
                self.keep_active,
                limit,
                partial(observer.recycle, self),
            )
            if gets_requests
            else None
        )
        self.channel.send([protocol.boot(config)])
        if boot_timeout is not None:
            self.process.after(
                boot_timeout,
                partial(self._boots_too_long, f"had not booted after {boot_timeout:g} s"),
            )

    def _routes(self, observer: ChildObserver) -> Routes:
        return Routes(
            protocol.ready.to(partial(observer.ready, self)),
            protocol.failed.to(self._failed),
            protocol.files_loaded.to(partial(observer.files_loaded, self)),
            protocol.pong.to(self._pong),
            protocol.idle.to(self._idle),
            protocol.active.to(self._activate),
            protocol.counted.to(self._note),
            protocol.recycle.to(partial(observer.recycle, self)),
            protocol.closing.to(self._take_no_more),
            protocol.bye.to(self._bye),
        )

    def __repr__(self) -> str:
        return f"<worker {self.number} [{self.pid}] {self.state.value}>"

    # -- what it says ------------------------------------------------------------------------------

    def _hear(self, batch: list[Message]) -> None:
        """HUB."""
        self._take(batch)

    def employ(self, take: Callable[[list[Message]], None]) -> None:
        """From now on requests are handed to it: ``take(batch)`` is called with what it says, for
        ``routes`` and for the answers to requests."""
        self._take = take

    def _failed(self, code: str, arguments: tuple[Any, ...], files: list[str]) -> None:
        self.files = files
        kinds: dict[str, Callable[..., GreenRouterError]] = {
            BindError.code: BindError,
            ConfigError.code: ConfigError,
        }
        self.failure = kinds.get(code, ApplicationError)(*arguments)

    def _note(self, snapshot: dict[str, Any] | None) -> None:
        self.process.heard()
        if snapshot is not None:
            self.snapshot = snapshot

    def booted(self, files: list[str]) -> None:
        """Be ready; these are the application's source files."""
        self.process.cancel()
        self.state, self.ready_at, self.files = State.READY, monotonic(), files
        self.keep_active()

    def _boots_too_long(self, reason: str) -> None:
        """HUB. Ask for its stacks first: an import that waits in a greenlet is on no thread's
        stack."""
        self.channel.send([protocol.where()])
        self.process.after(ASKED_WITHIN, partial(self.process.abort, reason))

    @property
    def running(self) -> bool:
        """True if it has booted, and not ended: it has a loop."""
        return self.state in (State.READY, State.LEAVING)

    @property
    def lived(self) -> float:
        """For how many seconds it has been ready."""
        return monotonic() - self.ready_at if self.ready_at is not None else 0.0

    # -- whether its loop turns --------------------------------------------------------------------

    def keep_active(self) -> None:
        """HUB. Something was sent to it, or done to it: it is active until it is asked again."""
        self._active_since_asked = True
        self._activate()

    def _activate(self) -> None:
        if not self.active:
            self.active = True
            self._activated()

    def _idle(self) -> None:
        self.active = self._active_since_asked

    def ask(self) -> None:
        """Ask whether its loop turns, and for its ledger; what was asked before and not answered
        stands."""
        if self.asked_at is None:
            self._asked += 1
            self._active_since_asked = False
            self._answered.clear()
            self.asked_at = monotonic()
            self.channel.send([protocol.ping(self._asked)])

    def _pong(self, number: int, snapshot: dict[str, Any] | None) -> None:
        self._note(snapshot)
        if number == self._asked:
            self.asked_at = None
            self._answered.set()

    def answers(self, seconds: float) -> bool:
        """True if it answers within that time. **Blocks** the calling greenlet."""
        return bool(self._answered.wait(seconds))

    # -- it goes -----------------------------------------------------------------------------------

    def retire(self, seconds: float, stop: Callable[[], None]) -> None:
        """Get no more work. ``stop`` is called in the hub after that time, unless it has been told
        to end by then."""
        if not self.has_ended:
            self.state = State.LEAVING
            self.process.after(seconds, stop)

    def stop(self, seconds: float, work: float) -> None:
        """Tell it to end, and see to it; one that boots is ended by force. A second call may
        shorten the time.

        Args:
            seconds: for what it has in hand; 0 for at once.
            work: how long that may take, with what is sent last; then it has as long again as one
                with nothing in hand.
        """
        if self.has_ended:
            return
        if self.ready_at is None:
            self.process.kill("was given up")
        else:
            self._leave_within = HURRY_WITHIN if seconds == 0 else LEAVE_WITHIN
            self.channel.send([protocol.stop(seconds)])
            self._kill_after(work + self._leave_within)
        self.state = State.LEAVING

    def _take_no_more(self) -> None:
        """HUB. Nothing more can be handed to it."""
        if self.backend is not None:
            self.backend.close()

    def _bye(self, snapshot: dict[str, Any] | None) -> None:
        self._note(snapshot)
        self._take_no_more()
        self._kill_after(self._leave_within)

    def _kill_after(self, seconds: float) -> None:
        self.process.after(seconds, partial(self.process.kill, "did not end in time"))

    # -- its end -----------------------------------------------------------------------------------

    @property
    def has_ended(self) -> bool:
        """True if it has ended."""
        return self.state in (State.ENDED, State.DIED)

    def _process_ended(self) -> None:
        """HUB. Somebody that it forked may still hold the channel open."""
        self._take_no_more()
        if self.channel.closed:
            self._end()
        else:
            self._timer.start(self._close_channel)

    def _close_channel(self) -> None:
        self.channel.close()
        self._end()

    def _channel_ended(self) -> None:
        """HUB. All that it said has been heard."""
        self._take_no_more()
        if self.process.ended:
            self._end()
        else:
            self.process.after(
                GONE_WITHIN, partial(self.process.kill, "closed its channel to the supervisor")
            )

    def _end(self) -> None:
        self._timer.close()
        self.state = State.ENDED if self.state is State.LEAVING else State.DIED
        self._answered.set()
        self._observer.ended(self)
