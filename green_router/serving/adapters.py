"""Handlers of other shapes.

Rules of this file
  1. An adapter is an ordinary handler around a callable; the server knows nothing of it.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

import gevent
from gevent.hub import Waiter, get_hub

from ..messages.request import Request
from ..settings import refuse_async
from . import forked

FIRST_PAUSE = 0.001
LONGEST_PAUSE = 0.05
GROWTH = 1.25
"""Seconds between two questions to a handler that is not ready, and how they grow. A pause is then a fifth of the time
that the handler has taken so far, which is what it makes a reply late by at the most; 50 ms at the end is 20 questions a
second for each request that takes long."""

BATCH = 64
"""Questions that are asked in one go before others get their turn: about a quarter of a millisecond."""


class Rounds:
    """Wakes all requests that wait for LONGEST_PAUSE together; has no timer while there are none.

    Measured with 20 requests that came one after the other: with a timer each they made 330 wake-ups a second and took
    1.4 % of a processor; in rounds it is 20 and 0.3 %.
    """

    __slots__ = ("__weakref__", "_loop", "_running", "_timer", "_waiting")

    def __init__(self) -> None:
        self._loop = get_hub().loop
        self._timer = self._loop.timer(LONGEST_PAUSE, LONGEST_PAUSE)
        self._running = False
        self._waiting: list[Waiter[None]] = []
        forked.arm(self)

    def pauses(self) -> Iterator[None]:
        """Each ``next`` **blocks** the calling greenlet until the next round, for LONGEST_PAUSE at the most."""
        waiter: Waiter[None] = Waiter()
        while True:
            self._waiting.append(waiter)
            if not self._running:
                self._running = True
                self._timer.again(self._turn)
            waiter.get()
            yield

    def _turn(self) -> None:
        """HUB. A round for all that wait now; without any, the last one."""
        waiting, self._waiting = self._waiting, []
        if not waiting:
            self._running = False
            self._timer.stop()
        for start in range(BATCH, len(waiting), BATCH):
            self._loop.run_callback(self._wake, waiting[start : start + BATCH])
        self._wake(waiting[:BATCH])

    def disarm(self) -> None:
        """In a forked child: those that wait are not asked there."""
        self._timer.stop()
        self._running = False

    @staticmethod
    def _wake(waiting: list[Waiter[None]]) -> None:
        """HUB. Let one after the other ask its question."""
        for waiter in waiting:
            waiter.switch(None)


_rounds: WeakKeyDictionary[Any, Rounds] = WeakKeyDictionary()
"""By hub, which is by thread."""


def _pauses() -> Iterator[None]:
    """Before the second question, the third ... : each ``next`` **blocks** the calling greenlet for longer."""
    pause = FIRST_PAUSE
    while pause < LONGEST_PAUSE:
        gevent.sleep(pause)
        yield
        pause *= GROWTH
    hub = get_hub()
    rounds = _rounds.get(hub)
    if rounds is None:
        rounds = _rounds[hub] = Rounds()
    yield from rounds.pauses()


def until_ready(handle_request: Callable[[Any], Any]) -> Callable[[Request], Any]:
    """Keep the calling convention of the hand-written loop: a falsy result means "not ready, ask again".

    Args:
        handle_request: called with the request, which unpacks as ``(client_id, data)``; returns a reply, or None, False
            or ``()`` for "not ready". ``b""`` is an empty reply.
    Returns:
        A handler. Each request is asked about again after 1 ms, then in pauses that grow to 50 ms, without delaying others.

    What to do instead, when you can: let the handler wait. It runs in a greenlet of its own, so it may block on
    anything that gevent knows (a socket, a queue, ``gevent.sleep``), return a future, or keep the request and call
    ``request.reply(...)`` when the result is there. Then nothing is asked twice, and the reply leaves at once.
    """
    refuse_async("until_ready", handle_request)

    @wraps(handle_request)
    def handle(request: Request) -> Any:
        pauses = _pauses()
        while True:
            result = handle_request(request)
            if not (result is None or result is False or (issubclass(type(result), tuple) and not result)):
                return result
            next(pauses)

    return handle


def offload(executor: Executor, function: Callable[..., Any]) -> Callable[[Request], Any]:
    """Run a handler in the threads or processes of an executor; no greenlet waits for it.

    Args:
        executor: anything with ``submit(function, argument)`` that returns a future: ThreadPoolExecutor,
            ProcessPoolExecutor, gevent's ThreadPoolExecutor. It is not shut down here.
        function: called there with the request; for processes, with a copy of it (plain data).
    Returns:
        A handler. What ``function`` returns is the reply; None is no reply.

    Under ``gevent.monkey.patch_all()`` the threads of a ThreadPoolExecutor are greenlets, and ProcessPoolExecutor does
    not work at all: use ``gevent.threadpool.ThreadPoolExecutor`` for real threads there.
    """
    refuse_async("offload", function)

    @wraps(function)
    def handle(request: Request) -> Any:
        return executor.submit(function, request)

    return handle
