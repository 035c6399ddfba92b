"""Time that passes when a test says so.

Rules of this file
  1. Between ``with FakeClock()`` and its end, ``monotonic`` stands still for the modules of
     green_router, and every timer of this thread's hub is the clock's: handler timeouts, looks,
     ``gevent.sleep``, ``gevent.Timeout``.
  2. Only ``advance`` moves it, from timer to timer, and lets everything that a timer sets off come
     to rest before the next.
  3. Descriptors, callbacks and other OS threads go on as ever: they take no time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any

import gevent
import greenlet
from gevent.hub import get_hub

ROUNDS = 3
"""Turns of the loop in which nothing may happen before the loop counts as idle: a descriptor fires
in one, rings, and whom that wakes runs in the next."""


class Switches:
    """Counts switches between greenlets of this thread, for the length of a ``with`` block.

    Attributes:
        by_target: greenlet -> how often it was switched to.
    """

    def __init__(self) -> None:
        self.by_target: dict[Any, int] = {}
        self._former: Any = None

    def __enter__(self) -> Switches:
        self._former = greenlet.settrace(self._switched)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        greenlet.settrace(self._former)

    def _switched(self, event: str, ends: tuple[Any, Any]) -> None:
        self.by_target[ends[1]] = self.by_target.get(ends[1], 0) + 1
        if self._former is not None:
            self._former(event, ends)


def run_until_idle() -> None:
    """Let the hub run until nothing happens any more without time passing. **Blocks** the calling
    greenlet."""
    me, hub = greenlet.getcurrent(), get_hub()
    rest = 0
    while rest < ROUNDS:
        with Switches() as switches:
            gevent.idle()
        rest = rest + 1 if set(switches.by_target) <= {me, hub} else 0


class FakeClock:
    """A clock, and the timers that go by it. Use it as a context manager, and make the server
    inside.

    Attributes:
        now: what ``monotonic`` says.
        fired: how many timers have fired.
    """

    def __init__(self) -> None:
        self.now = time.monotonic()
        self.fired = 0
        self._timers: dict[FakeTimer, float] = {}
        self._loop: Any = None
        self._patched: list[Any] = []

    def monotonic(self) -> float:
        """In the place of ``time.monotonic``."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let everything come to rest, and time pass. **Blocks** the caller, which must be nobody
        that waits for this clock."""
        run_until_idle()
        end = self.now + seconds
        while self._timers:
            timer = min(self._timers, key=self._timers.__getitem__)
            if self._timers[timer] > end:
                break
            self.now = max(self.now, self._timers[timer])
            self.fired += 1
            timer.fire()
            run_until_idle()
        self.now = end

    def __enter__(self) -> FakeClock:
        hub = get_hub()
        self._loop = hub.loop
        hub.loop = _Loop(hub.loop, self)
        for name, module in list(sys.modules.items()):
            if (
                name.startswith("green_router.")
                and getattr(module, "monotonic", None) is time.monotonic
            ):
                self._patched.append(module)
                vars(module)["monotonic"] = self.monotonic
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        get_hub().loop = self._loop
        while self._patched:
            vars(self._patched.pop())["monotonic"] = time.monotonic

    def set(self, timer: FakeTimer, seconds: float) -> None:
        """Let a timer fire that much later."""
        self._timers.pop(timer, None)
        self._timers[timer] = self.now + seconds

    def unset(self, timer: FakeTimer) -> None:
        """Forget a timer; harmless when repeated."""
        self._timers.pop(timer, None)

    def is_set(self, timer: FakeTimer) -> bool:
        """True if it will fire."""
        return timer in self._timers

    def spawn_callback(self, callback: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
        """Call it in the hub, where timers call."""
        self._loop.run_callback(callback, *arguments)


class FakeTimer:
    """The timer that ``loop.timer`` returns, as far as gevent and this package use it."""

    def __init__(self, clock: FakeClock, after: float, repeat: float) -> None:
        self._clock, self._after, self._repeat = clock, after, repeat
        self.callback: Callable[..., Any] | None = None
        self.args: tuple[Any, ...] = ()
        self.pending = False

    @property
    def active(self) -> bool:
        """True if it will fire."""
        return self._clock.is_set(self)

    def start(self, callback: Callable[..., Any], *args: Any, update: bool = True) -> None:
        """Call back later."""
        self.callback, self.args = callback, args
        self._clock.set(self, self._after)

    def again(self, callback: Callable[..., Any], *args: Any, update: bool = True) -> None:
        """Start, or start again, by the time of the repetition."""
        self.callback, self.args = callback, args
        self._clock.set(self, self._repeat)

    def fire(self) -> None:
        """The time has come."""
        if self._repeat:
            self._clock.set(self, self._repeat)
        else:
            self._clock.unset(self)
        if self.callback is not None:
            self._clock.spawn_callback(self.callback, self.args)

    def stop(self) -> None:
        """Do not call back."""
        self._clock.unset(self)

    close = stop

    def __enter__(self) -> FakeTimer:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class _Loop:
    """The hub's loop, but for its timers."""

    def __init__(self, loop: Any, clock: FakeClock) -> None:
        self.__dict__.update(_loop=loop, _clock=clock)

    def timer(
        self, after: float, repeat: float = 0.0, ref: bool = True, priority: int | None = None
    ) -> Any:
        """Return a timer that goes by the clock; of zero seconds, the loop's own: it asks for a
        turn, not for time."""
        if after == repeat == 0:
            return self._loop.timer(0, ref=ref)
        return FakeTimer(self._clock, after, repeat)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loop, name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self._loop, name, value)
