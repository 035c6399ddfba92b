"""Native threads that take calls from a queue.

Rules of this file
  1. The threads are native, also where ``threading`` is patched: a call that blocks there, in C or
     in Python, stops nobody.
  2. They are started by the first calls, and end when the executor is shut down.
  3. Whoever puts a call in the queue never waits.
"""

from __future__ import annotations

import os
from _queue import SimpleQueue
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any
from weakref import WeakSet

from gevent.monkey import get_original

from ..errors import StateError, WrongProcess
from ..hub.latch import Latch
from .future import OffloadFuture

start_new_thread = get_original("_thread", "start_new_thread")
allocate_lock = get_original("_thread", "allocate_lock")

END_SECONDS = 5.0
"""How long ``shutdown`` waits for the threads."""

_all: WeakSet[Threads] = WeakSet()


class Threads(Executor):
    """An executor of so many native threads, each of which does one call after the other.

    Args:
        count: of the threads, at the most.
    """

    def __init__(self, count: int) -> None:
        self._count, self._pid = count, os.getpid()
        self._calls: SimpleQueue[OffloadFuture | None] = SimpleQueue()
        self._lock = allocate_lock()
        self._started = self._running = 0
        self._closed = False
        self._ended = Latch()
        _all.add(self)

    def submit(
        self, function: Callable[..., Any], /, *arguments: Any, **named: Any
    ) -> OffloadFuture:
        """Have a function called. **Thread-safe**; it never waits.

        Raises:
            StateError: it was shut down.
            WrongProcess: this process was forked from the one that made it.
        """
        if os.getpid() != self._pid:
            raise WrongProcess("this executor", self._pid, os.getpid())
        future = OffloadFuture(function, arguments, named)
        with self._lock:
            if self._closed:
                raise StateError("submit on an executor that was shut down")
            self._calls.put(future)
            if self._started < self._count:
                start_new_thread(self._work, (self._started,))
                self._started += 1
                self._running += 1
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, and end when those that were taken are done. **Blocks** the calling
        greenlet, for END_SECONDS at the most.

        Args:
            wait: whether to wait at all.
            cancel_futures: whether those that have not begun are cancelled.
        """
        if os.getpid() != self._pid:
            return
        with self._lock:
            closed, self._closed = self._closed, True
            if not self._running:
                self._ended.set()
        while cancel_futures and not self._calls.empty():
            waiting = self._calls.get()
            if waiting is not None:
                waiting.cancel()
        if cancel_futures:
            self._cut_off()
        if not closed or cancel_futures:
            for _ in range(self._started):
                self._calls.put(None)
        if wait:
            self._ended.wait(END_SECONDS)

    def _work(self, number: int) -> None:
        """A native thread."""
        try:
            while (future := self._calls.get()) is not None:
                try:
                    self._take(number, future)
                except BaseException as error:  # a bug, or no memory: nobody else would hear of it
                    future.settle(None, error)
                del future
        finally:
            self._leave(number)
            with self._lock:
                self._running -= 1
                last = self._closed and not self._running
            if last:
                self._ended.set()

    def _take(self, number: int, future: OffloadFuture) -> None:
        """In the thread of that number: see to a future from the queue."""
        if future.set_running_or_notify_cancel():
            self._do(number, future)

    def _do(self, number: int, future: OffloadFuture) -> None:
        """In the thread of that number: make the call, and settle its future."""
        assert future.function is not None
        result = error = None
        try:
            result = future.function(*future.arguments, **future.named)
        except BaseException as raised:
            error = raised
        future.settle(result, error)

    def _cut_off(self) -> None:
        """ANY THREAD. End the calls that have begun, where that can be done: a thread goes on."""

    def _leave(self, number: int) -> None:
        """In the thread of that number, when it ends."""

    def disarm(self) -> None:
        """In a forked child."""
        self._lock = allocate_lock()


def _after_in_child() -> None:
    for each in list(_all):
        each.disarm()


os.register_at_fork(after_in_child=_after_in_child)
