"""A future that whoever wants can wait for: a greenlet, an OS thread, a coroutine, a server.

Rules of this file
  1. It is a concurrent.futures.Future, so ``asyncio.wrap_future``, ``as_completed`` and the server
     take it. Its lock is a native one: it is set in native threads, also where ``threading`` is
     patched.
  2. ``result`` and ``exception`` let other greenlets go on.
  3. Once cancelled it keeps nothing of what was to be done.
"""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from gevent.monkey import get_original

from ..hub.latch import Latch

NativeCondition = get_original("threading", "Condition")
NativeLock = get_original("_thread", "RLock")


class OffloadFuture(concurrent.futures.Future[Any]):
    """The future of a call.

    Attributes:
        function, arguments, named: what is called, until that is done or cancelled.
        number: that of the call in another process, where calls have numbers.
    """

    def __init__(
        self, function: Callable[..., Any], arguments: tuple[Any, ...], named: Mapping[str, Any]
    ) -> None:
        super().__init__()
        self._condition = NativeCondition(NativeLock())
        self.function: Callable[..., Any] | None = function
        self.arguments, self.named = arguments, named
        self.number: int | None = None

    def forget(self) -> None:
        """Let go of what was to be called."""
        self.function, self.arguments, self.named = None, (), {}

    def cancel(self) -> bool:
        """Cancel it if it has not begun; return whether it is cancelled. Work that has begun goes
        on. **Thread-safe.**"""
        cancelled = super().cancel()
        if cancelled:
            self.forget()
        return cancelled

    def result(self, timeout: float | None = None) -> Any:
        """Return what the function returned, or raise what it raised. **Blocks** the calling
        greenlet; **thread-safe**.

        Raises:
            concurrent.futures.TimeoutError, concurrent.futures.CancelledError.
        """
        self._wait(timeout)
        return super().result(0)

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the function raised, or None. **Blocks** the calling greenlet;
        **thread-safe**. Raises as ``result``."""
        self._wait(timeout)
        return super().exception(0)

    def _wait(self, seconds: float | None) -> None:
        if not self.done():
            latch = Latch()
            self.add_done_callback(partial(_set, latch))
            latch.wait(seconds)

    def settle(self, result: Any, error: BaseException | None) -> None:
        """ANY THREAD. Set what came of the call; harmless where that is set already."""
        self.forget()
        try:
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
        except concurrent.futures.InvalidStateError:
            pass


def _set(latch: Latch, future: object) -> None:
    latch.set()
