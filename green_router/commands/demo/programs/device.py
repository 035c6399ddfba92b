"""A device: it makes each reply ready at an exact moment, and who serves has no say in it.

Rules of this file
  1. One thread of the operating system, also where gevent has patched threads: it waits on a lock
     until the next reply is due. No event loop rounds that up, and no handler holds it up for
     longer than it holds the interpreter.
  2. A reply begins with the moment at which it was due, by the monotonic clock, which all processes
     of a machine share. What comes after that moment is late, also if this thread was.
  3. A request is ``MICROSECONDS BYTES TEXT``: how long its reply takes, how much padding it has,
     and what comes back reversed.
"""

from __future__ import annotations

import _thread
import sys
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from time import monotonic
from typing import Any


def _of_the_system(name: str) -> Any:
    """Return what _thread has by that name, and had before gevent patched it."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey.get_original("_thread", name) if monkey else getattr(_thread, name)


class Job:
    """A reply in the making: a future, as far as anybody here needs one."""

    __slots__ = ("_callbacks", "_due", "_end", "_guard", "_reply")

    def __init__(self, due: float, end: bytes, guard: Any) -> None:
        self._due, self._end, self._guard = due, end, guard
        self._reply = b""
        self._callbacks: list[Callable[[Job], object]] = []

    def done(self) -> bool:
        """True if the reply is ready."""
        return bool(self._reply)

    def result(self) -> bytes:
        """Return the reply, which must be ready."""
        assert self._reply
        return self._reply

    def add_done_callback(self, callback: Callable[[Job], object]) -> None:
        """Let this be called with the job when the reply is ready, in the device's thread; at once
        where it is."""
        with self._guard:
            if not self._reply:
                self._callbacks.append(callback)
                return
        callback(self)

    def finish(self) -> None:
        """Make the reply ready, and tell whoever asked to be told."""
        with self._guard:
            self._reply = b"%.6f %s" % (self._due, self._end)
        for callback in self._callbacks:
            callback(self)


class Device:
    """A device that a service waits for."""

    def __init__(self) -> None:
        self._jobs: list[tuple[float, int, Job]] = []
        self._numbers = count()
        self._guard = _of_the_system("allocate_lock")()
        self._bell = _of_the_system("allocate_lock")()
        self._bell.acquire()
        _of_the_system("start_new_thread")(self._run, ())

    def start(self, data: bytes) -> Job:
        """Begin to make the reply to a request; where it takes no time, it is ready at once."""
        microseconds, padding, text = data.split(b" ", 2)
        due = monotonic() + int(microseconds) / 1e6
        job = Job(due, text[::-1] + bytes(int(padding)), self._guard)
        if not int(microseconds):
            job.finish()
            return job
        with self._guard:
            heappush(self._jobs, (due, next(self._numbers), job))
            is_next = self._jobs[0][2] is job
        if is_next and self._bell.locked():
            self._bell.release()
        return job

    def _run(self) -> None:
        while True:
            with self._guard:
                wait = self._jobs[0][0] - monotonic() if self._jobs else None
            if wait is None:
                self._bell.acquire()
            elif wait > 0:
                self._bell.acquire(True, wait)
            else:
                self._finish_what_is_due()

    def _finish_what_is_due(self) -> None:
        due = []
        with self._guard:
            now = monotonic()
            while self._jobs and self._jobs[0][0] <= now:
                due.append(heappop(self._jobs)[2])
        for job in due:
            job.finish()
