"""An event that happens once, told to whoever waits for it in any OS thread.

Rules of this file
  1. ``set`` never waits, and never fails because somebody who waited is no more: a thread that has
     ended, a hub that was destroyed.
  2. A greenlet waits in the hub of its thread, and the others of that thread go on. A thread
     without a hub waits as threads do: a hub made for that would outlive it, with its descriptors.
  3. There is no lock. Who waits is entered first, and then looks whether it has happened; ``set``
     does it the other way round. So a signal handler may call both.

gevent's own Event wakes greenlets of other threads too, but needs a hub in each of them, and one
that has nothing else to wait for ends with LoopExit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

from gevent import Timeout
from gevent._hub_local import get_hub_if_exists  # public nowhere; gevent.get_hub would make one
from gevent.hub import Waiter
from gevent.monkey import get_original

allocate_lock = get_original("_thread", "allocate_lock")


class Latch:
    """Something that has not happened yet, and then has for ever.

    Attributes:
        done: whether it has happened.
    """

    __slots__ = ("_wake", "done")

    def __init__(self) -> None:
        self.done = False
        self._wake: deque[Callable[[], object]] = deque()

    def set(self) -> None:
        """Let it have happened, and wake all who wait. **Thread-safe.**"""
        self.done = True
        with suppress(IndexError):  # another thread sets it too
            while self._wake:
                wake = self._wake.popleft()
                with suppress(Exception):  # whoever waited there has gone
                    wake()

    def call(self, told: Callable[[], object]) -> None:
        """Call this when it has happened: in the thread that sets it, or here at once, or both.
        **Thread-safe.**"""
        self._wake.append(told)
        if self.done:
            told()

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until it has happened, or for that time. **Blocks** the calling greenlet;
        **thread-safe**.

        Returns:
            Whether it has happened.
        """
        if not self.done:
            hub = get_hub_if_exists()
            if hub is None:
                self._wait_as_a_thread(seconds)
            else:
                self._wait_in(hub, seconds)
        return self.done

    def _wait_as_a_thread(self, seconds: float | None) -> None:
        gate = allocate_lock()
        gate.acquire()
        self._wait(gate.release, lambda: gate.acquire(True, -1 if seconds is None else seconds))

    def _wait_in(self, hub: Any, seconds: float | None) -> None:
        waiter: Waiter[None] = Waiter()
        keep: Any = hub.loop.async_()  # the loop ends where nothing can wake it
        keep.start(lambda: None)
        try:
            with Timeout(seconds, False):  # type: ignore[arg-type]
                self._wait(
                    partial(hub.loop.run_callback_threadsafe, waiter.switch, None), waiter.get
                )
        finally:
            keep.close()

    def _wait(self, wake: Callable[[], object], wait: Callable[[], object]) -> None:
        self._wake.append(wake)
        try:
            if not self.done:
                wait()
        finally:
            with suppress(ValueError):  # it was taken out to be called
                self._wake.remove(wake)
