"""The coroutines and async generators that handlers return: asyncio runs them, in a thread of its
own.

Rules of this file
  1. A handler greenlet hands a coroutine over and is free; the reply leaves when the coroutine is
     done, and no greenlet waits. What it returned or raised is judged by results.py or failures.py,
     in the serving thread, as what a handler returned or raised.
  2. A coroutine counts as a handler at work, against ``concurrency`` and in a drain, until it is
     done: also behind its reply.
  3. Whoever settles its request (a deadline, a client that has gone, the end of the server) ends it
     by ``throw``, as they end a greenlet: its task is cancelled. What one does that does not listen
     to that is nobody's business: its result is too late, and at the end of the server it is left
     behind.
  4. It runs in the context (contextvars) in which its handler returned it.
  5. A stream runs no further ahead than its peer's window (windows.py), and awaits there.
"""

from __future__ import annotations

import contextvars
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any, Protocol

from gevent.hub import Hub
from greenlet import getcurrent

from ..hub import forked
from ..hub.latch import Latch
from ..messages.in_flight import InFlight
from ..messages.ledger import ANSWERED, LATE, NO_REPLY, STREAM_ITEMS, Ledger
from ..messages.request import Request
from ..messages.size import body_bytes, bytes_of
from .asyncio_thread import AsyncioThread, asyncio_thread, runs_here
from .failures import Failures
from .futures import Judge
from .mailbox import Mailbox
from .streams import Streams
from .windows import Window, Windows

ASYNCHRONOUS = (Awaitable, AsyncIterator)
"""What asyncio is to run, when a handler returns it."""

END_SECONDS = 1.0
"""How long the end of a server waits for coroutines that it has cancelled: for their
``finally``."""


class StreamJudge(Judge, Protocol):
    """The same, with what streams need. Attributes: windows, streams."""

    windows: Windows
    streams: Streams

    @property
    def body(self) -> Callable[[Request, Any], bytes | list[bytes]]:
        """ANY THREAD. The body of a reply. Raises BadReply."""


class Call:
    """A coroutine at work for a request; the holder of that in the table of open requests.

    Attributes:
        request: what it is at work for; None when that is over.
        awaitable: the coroutine, or what else can be awaited; or an async iterator.
        context: in which it runs.
        result, error: what came of it.
        cancelled: whether somebody has ended it.
        stream: whether it yields items, each a reply.
        fate: of a stream that has come to its end.
        thread: where it runs.
    """

    __slots__ = (
        "awaitable",
        "cancelled",
        "context",
        "error",
        "fate",
        "request",
        "result",
        "started",
        "stream",
        "task",
        "thread",
    )

    running = put_off = False

    def __init__(self, request: Request, awaitable: Any, thread: AsyncioThread) -> None:
        self.request: Request | None = request
        self.awaitable, self.thread, self.stream = (
            awaitable,
            thread,
            issubclass(type(awaitable), AsyncIterator),
        )
        self.context = contextvars.copy_context()
        self.result: Any = None
        self.error: BaseException | None = None
        self.cancelled = self.started = False
        self.fate: int | None = None
        self.task: Any = None

    def throw(self, error: BaseException) -> None:
        """ANY THREAD. Cancel its task, soon; once: a second time would cut off what it does at its
        end."""
        if not self.cancelled:
            self.cancelled = True
            self.thread.call(self._cancel)

    def _cancel(self) -> None:
        """ASYNCIO. Cancel a coroutine.

        One that has not begun looks at ``cancelled`` itself: cancelled before, it would not run at
        all.
        """
        if self.started and self.task is not None:
            self.task.cancel()


class Coroutines:
    """The coroutines of one server. Made in the serving thread.

    Args:
        results, failures: judge what comes of them.
        in_flight, mailbox, ledger: the neighbours.
        occupy: ``occupy(change)``, told how many more, or fewer, are at work.
    Attributes:
        alive: those that are not done.
    """

    def __init__(
        self,
        results: StreamJudge,
        failures: Failures,
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        occupy: Callable[[int], None],
    ) -> None:
        self._results, self._failures, self._in_flight, self._mailbox, self._ledger = (
            results,
            failures,
            in_flight,
            mailbox,
            ledger,
        )
        self.alive: set[Call] = set()
        self._occupy = occupy
        self._none_left: Latch | None = None
        self._armed = False

    def start(self, request: Request, awaitable: Any) -> None:
        """HANDLER or OWNER. Let asyncio run it. Raises StateError where it cannot; it is closed
        then."""
        try:
            thread = asyncio_thread()
        except BaseException:
            close_unawaited(awaitable)
            raise
        if not self._in_flight.owes(request) and request.time_left == 0.0:
            close_unawaited(awaitable)  # it has its answer: too late
            self._late()
            return
        if not self._armed:
            self._armed = True
            forked.arm(self)
        call = Call(request, awaitable, thread)
        self.alive.add(call)
        self._in_flight.elsewhere[id(request)] = call
        self._occupy(1)
        thread.call(partial(self._begin, call))

    def _begin(self, call: Call) -> None:
        """ASYNCIO."""
        call.task = call.context.run(call.thread.loop.create_task, self._run(call))

    async def _run(self, call: Call) -> None:
        """ASYNCIO, a task of its own. Nothing comes out of it."""
        call.started = True
        try:
            if call.cancelled:
                close_unawaited(call.awaitable)
            elif call.stream:
                await self._stream(call, call.awaitable)
            else:
                call.result = await call.awaitable
        except BaseException as error:
            call.error = error
        call.awaitable = call.task = None
        if not self._results.stopped:
            self._mailbox.put_threadsafe(partial(self._finished, call))
        self.alive.discard(call)
        if self._none_left is not None and not self.alive:
            self._none_left.set()

    async def _stream(self, call: Call, items: AsyncIterator[Any]) -> None:
        """ASYNCIO. Send what it yields, one reply an item, no faster than the peer takes them."""
        request, results = call.request, self._results
        assert request is not None
        window, envelope = (
            results.windows.of(request.frames[0]),
            bytes_of(request.frames[: request.envelope_length]),
        )
        results.streams.watch(request)  # so that an item which is too late is noticed
        fate = NO_REPLY
        try:
            await self._room(call, window)  # before anything is made
            async for item in items:
                # Other streams to that peer have filled it meanwhile.
                await self._room(call, window)
                if not self._in_flight.owes(request):
                    self._mailbox.put_threadsafe(self._late)
                    return
                body = results.body(request, item)
                self._mailbox.put_threadsafe((request, body, STREAM_ITEMS))
                fate = ANSWERED
                window.spend(envelope + body_bytes(body))
                await self._room(call, window)
            call.fate = fate
        finally:
            close: Any = getattr(items, "aclose", None)
            if close is not None:
                await close()

    async def _room(self, call: Call, window: Window) -> None:
        loop = call.thread.loop
        while window.left <= 0 and not self._results.stopped:
            room = loop.create_future()
            window.call_when_empty(partial(call.thread.call, partial(_set, room)))
            await room

    def _late(self) -> None:
        """Serving thread."""
        self._ledger.counts[LATE] += 1

    def _finished(self, call: Call) -> None:
        """OWNER. Note that a coroutine is done."""
        request, call.request = call.request, None
        error, call.error = call.error, None
        result, call.result = call.result, None
        assert request is not None
        self._in_flight.elsewhere.pop(id(request), None)
        self._occupy(-1)
        results = self._results
        if isinstance(error, call.thread.CancelledError) and call.cancelled:
            return  # as was asked, by who has settled the request
        if error is None:
            try:
                if not call.stream:
                    results.finish(request, result)
                elif call.fate is not None:
                    results.settle(request, None, call.fate)
            except BaseException as bad:
                error = bad
        if error is not None:
            results.run(partial(self._failures.fail, request, error))

    def at_work(self) -> list[Call]:
        """Return the coroutines that are not done."""
        return [call for call in list(self.alive) if call.request is not None]

    def close(self) -> None:
        """ANY THREAD. Cancel those that are left, and wait for their ends, for a time. **Blocks**
        the calling greenlet."""
        self._none_left = Latch()
        for call in list(self.alive):
            call.throw(GeneratorExit())
        if self.alive and not isinstance(getcurrent(), Hub) and not runs_here():
            self._none_left.wait(END_SECONDS)

    def disarm(self) -> None:
        """In a forked child: there is no loop any more."""
        self.alive.clear()


def close_unawaited(awaitable: Any) -> None:
    """Close a coroutine that nobody will await, so that Python does not warn of it."""
    close = getattr(awaitable, "close", None)
    if close is not None:
        close()


def _set(future: Any) -> None:
    """ASYNCIO."""
    if not future.done():
        future.set_result(None)
