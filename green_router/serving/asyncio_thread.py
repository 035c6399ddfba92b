"""The OS thread in which asyncio runs the coroutines of handlers: one for each process, started
when first needed.

Rules of this file
  1. It knows nothing of requests: what it is handed is called in its loop.
  2. It is a native thread, so whatever a coroutine does there, the hub goes on. In a process that
     gevent has patched there is none: its sockets, locks and threads would be greenlets of a hub
     that nobody runs (PATCHED says what then happens).
  3. Many calls cost one wake-up, as in the mailbox.
  4. It ends with the process: the tasks that are left are cancelled, and have END_SECONDS for what
     they do then.
  5. In a forked child it is no more, and another one is started when it is needed there. A
     coroutine that has forked goes on there alone, and where it comes back the child ends: nothing
     waits there for what it returns.
"""

from __future__ import annotations

import atexit
import os
import sys
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from gevent import monkey

from ..errors import StateError

allocate_lock = monkey.get_original("_thread", "allocate_lock")
get_ident = monkey.get_original("_thread", "get_ident")

END_SECONDS = 1.0
"""How long the end of the process waits for the tasks that are left."""

PATCHED = (
    "asyncio does not work in a process that gevent has patched (name look-ups and executors hang "
    "in it): run it unpatched, without monkey.patch_all(), or with green-router serve --no-patch"
)
"""Measured: ``getaddrinfo`` and ``run_in_executor`` hang; from CPython 3.13.12 on, everything does
(gevent#2213)."""


def is_patched() -> bool:
    """True if asyncio would find anything patched that it stands on."""
    return any(
        map(monkey.is_module_patched, ("socket", "select", "selectors", "threading", "_thread"))
    )


class AsyncioThread:
    """An event loop of asyncio, running in a thread of its own.

    Attributes:
        loop: the event loop.
        ident: of the thread; None before it runs.
        CancelledError: asyncio's.
    """

    def __init__(self) -> None:
        import asyncio  # here: most processes do without
        import threading

        self.loop: Any = asyncio.new_event_loop()
        self.ident: int | None = None
        self._asyncio = asyncio
        self.CancelledError = asyncio.CancelledError
        self._calls: deque[Callable[[], object]] = deque()
        self._knocked = False
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name="green_router asyncio", daemon=True)
        self._thread.start()
        atexit.register(self._end)

    def call(self, function: Callable[[], object]) -> None:
        """Call this in the loop, soon, behind what was handed over before. **Thread-safe**; from
        the hub too."""
        self._calls.append(function)
        if not self._knocked:
            self._knocked = True
            with suppress(RuntimeError):  # the loop is closed: the process ends
                self.loop.call_soon_threadsafe(self._take)

    def _take(self) -> None:
        self._knocked = False
        while self._calls:
            self._calls.popleft()()

    def _run(self) -> None:
        self.ident = get_ident()
        self._asyncio.set_event_loop(self.loop)
        while True:
            try:
                self.loop.run_forever()
            # A task of the application's own asked the process to end: not from here.
            except BaseException:
                traceback.print_exc()
                if os.getpid() == self._pid:
                    self._knocked = False
                    self.call(bool)
                    continue
            break
        if os.getpid() != self._pid:
            sys.stderr.write(
                "green_router: a coroutine that has forked came back in the child, where nothing "
                "waits for it\n"
            )
            sys.stderr.flush()
            os._exit(1)
        left = self._asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        with suppress(Exception):
            if left:
                self.loop.run_until_complete(self._asyncio.wait(left, timeout=END_SECONDS))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            if not self._asyncio.all_tasks(self.loop):
                self.loop.close()

    def _end(self) -> None:
        """At the end of the process. **Blocks**, for a time."""
        if os.getpid() == self._pid:
            with suppress(RuntimeError):
                self.loop.call_soon_threadsafe(self.loop.stop)
            self._thread.join(2 * END_SECONDS)

    def forget(self) -> None:
        """In a forked child."""
        atexit.unregister(self._end)
        if get_ident() == self.ident:
            self._calls.clear()
            self.loop.stop()


class _Known:
    """The one of this process, if there is one."""

    def __init__(self) -> None:
        self.thread: AsyncioThread | None = None
        self.lock = allocate_lock()


_known = _Known()
_forgotten: list[AsyncioThread] = []
"""Those of parents: a loop that is collected would take its descriptors out of the parent's epoll
set."""


def asyncio_thread() -> AsyncioThread:
    """Return the one of this process, started.

    Raises:
        StateError: the process is patched.
    """
    if _known.thread is None:
        if is_patched():
            raise StateError(PATCHED)
        with _known.lock:
            if _known.thread is None:
                _known.thread = AsyncioThread()
    return _known.thread


def runs_here() -> bool:
    """True if this is that thread."""
    return _known.thread is not None and _known.thread.ident == get_ident()


def _after_in_child() -> None:
    _known.lock = allocate_lock()
    if _known.thread is not None:
        _forgotten.append(_known.thread)
        _known.thread.forget()
        _known.thread = None


os.register_at_fork(after_in_child=_after_in_child)
