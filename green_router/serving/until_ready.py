"""Handlers of the poll loop's convention, which are asked again until their reply is ready.

Rules of this file
  1. Where such a handler is a server's, a request that is not ready costs no greenlet: asking.py
     asks again.
  2. Where something else calls it (a decorator above it, say), it returns when there is a reply:
     the calling greenlet waits, and the questions are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import update_wrapper
from typing import Any
from weakref import WeakSet

from gevent.event import AsyncResult
from greenlet import getcurrent

from ..async_functions import refuse_async
from ..messages.request import Request
from .asking import Asking
from .greenlets import Hold
from .questions import Asked, Questions, is_pending

NO_HOLD = Hold(None)
"""Of a greenlet that is no handler's."""


class UntilReady:
    """A handler of the poll loop's convention: ``until_ready`` makes it."""

    def __init__(self, handle_request: Callable[[Any], Any]) -> None:
        update_wrapper(self, handle_request, updated=())
        self._handle_request = handle_request
        self._told = False
        self._askings: WeakSet[Asking] = WeakSet()

    def begin(self, request: Request) -> Any:
        """HANDLER. Ask for the first time.

        Returns:
            What the handler has returned, or an ``Asked`` where it was not ready.
        """
        questions: Questions = request.server.questions  # type: ignore[attr-defined]
        asking = questions.known.get(self) or self._known_to(questions)
        said = asking.said
        result = self._handle_request(request)
        return Asked(asking, request, said) if is_pending(result) else result

    def __call__(self, request: Request) -> Any:
        """Ask until there is a reply, and return it. **Blocks** the calling greenlet."""
        result = self.begin(request)
        if not isinstance(result, Asked):
            return result
        hold = getattr(getcurrent(), "hold", NO_HOLD)
        waiter: AsyncResult[Any] = AsyncResult()
        result.waiter = waiter
        hold.put_off = True
        try:
            result.wait()
            return waiter.get()
        finally:
            hold.put_off = False
            result.end()

    def _known_to(self, questions: Questions) -> Asking:
        """Let requests of this server be asked about."""
        asking = questions.known[self] = Asking(self._handle_request, questions, self._told)
        self._askings.add(asking)
        return asking

    def ready(self, request: object = None) -> None:
        """Say that a reply has become ready, and ask the handler for it at once.

        Whoever makes a reply ready calls this behind it:
        ``future.add_done_callback(handler.ready)``. From then on the handler is asked by time only
        as a net: a reply of which nobody tells is late by a second, or by an eighth of what it
        took.

        Args:
            request: the one to ask about. Without it, or with anything else than a Request (the
                future with which ``add_done_callback`` calls), all that wait are asked about.
        **Thread-safe**: from any greenlet, OS thread or signal handler, and at any time. Many calls
        make one wake-up.
        """
        self._told = True
        only = request if isinstance(request, Request) else None
        for asking in list(self._askings):
            if not asking.over:
                asking.tell(only)


def until_ready(handle_request: Callable[[Any], Any]) -> UntilReady:
    """Keep the calling convention of the hand-written loop: a falsy result means "not ready, ask
    again".

    Args:
        handle_request: called with the request, which unpacks as ``(client_id, data)``; returns a
            reply, or None, False or ``()`` for "not ready". ``b""`` is an empty reply.
    Returns:
        A handler. Each request is asked about again every millisecond while it is young, or as old
        as others were when they became ready, and less often elsewhere, without delaying others;
        all that wait share one timer.

    Tell it, when you can, what is ready: whoever makes it ready calls the handler's ``ready``, from
    any thread, and it is asked at once; then almost nothing is asked in vain. As a decorator that
    is::

        @until_ready
        def handle_request(request):
            client_id, data = request
            if request not in jobs:
                jobs[request] = pool.submit(work, data)
                jobs[request].add_done_callback(handle_request.ready)
            ...

    Or let the handler wait. It runs in a greenlet of its own, so it may block on anything that
    gevent knows (a socket, a queue, ``gevent.sleep``), return a future, or keep the request and
    call ``request.reply(...)`` when the result is there. Then nothing is asked twice, and the reply
    leaves at once.
    """
    refuse_async("until_ready", handle_request)
    return handle_request if isinstance(handle_request, UntilReady) else UntilReady(handle_request)
