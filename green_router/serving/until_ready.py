"""Handlers of the poll loop's convention, which are asked again until their reply is ready.

Rules of this file
  1. A request is asked about in the greenlet in which it was asked about first: it keeps its context and its locals, and
     a handler that blocks when it is asked delays no other.
  2. All that wait in a thread have one timer. Pauses are powers of two of a millisecond, and questions stand at multiples
     of their pause: those about different requests share wake-ups. Where nothing waits there is no timer.
  3. A pause is a part of the time that the handler has taken so far: a small one at an age at which others became ready,
     a larger one elsewhere.
  4. Asking takes a tenth of the time at the most, however many wait: then the pauses are longer.
  5. Where the application says what is ready, it is asked at once, and time is only the net below: a reply of which
     nobody tells is late by an eighth of what it took, by a second at the least.
  6. What another thread says goes through one callback of the hub, however often it is said until that has run.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import update_wrapper
from time import monotonic
from typing import Any
from weakref import WeakKeyDictionary

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from ..async_functions import refuse_async
from ..messages.request import Request
from . import forked
from .turns import Turns

EXPECTED = 9, 0, 6
UNKNOWN = 5, 0, 6
UNEXPECTED = 5, 2, 6
TOLD = 3, 10, 16
"""Pauses: the part of the age (2 ** -9 of it), the shortest and the longest (2 ** 0 and 2 ** 6 ms). Where replies are
expected a reply is late by a millisecond, or by 0.2 % of what it took; where nothing was learned yet, by 3 %; at an age at
which none of many replies was ready, by 4 ms at least: of those that take 20 to 50 ms, the first 16 need few questions."""

MOST = TOLD[2] + 1

SHARE = 10
"""Asking may take one part in so many of the time. With 1,000 requests that wait, a round takes a millisecond or two."""

ENOUGH = 32
MEMORY = 256
"""Replies from which on an age without any counts as one at which none is expected, and those that are remembered."""


class Experience:
    """The ages at which replies became ready, roughly, and the pauses that follow from them.

    Ages are counted in fourths of an octave, the recent ones twice as much as those before.
    """

    __slots__ = ("_counts", "_total")

    def __init__(self) -> None:
        self._counts = [0] * 128
        self._total = 0

    def learn(self, age: int) -> None:
        """Remember that a reply was ready at this age, in milliseconds."""
        self._counts[_interval(age)] += 1
        self._total += 1
        if self._total >= MEMORY:
            self._counts = [count >> 1 for count in self._counts]
            self._total = sum(self._counts)

    def pause(self, age: int) -> int:
        """Return how long to wait at this age until the next question: 2 to the power of that, in milliseconds."""
        pause = _pause(age, *(UNKNOWN if self._total < ENOUGH else UNEXPECTED))
        if self._counts[_interval(age)] or self._counts[_interval(age + (1 << pause))]:
            return _pause(age, *EXPECTED)
        return pause


def _interval(age: int) -> int:
    """The fourth of an octave into which an age falls; from 2 ** 30 ms on, the last one."""
    shift = max(age.bit_length() - 3, 0)
    return min(4 * shift + (age >> shift), 127)


def _pause(age: int, part: int, shortest: int, longest: int) -> int:
    return min(max(age.bit_length() - 1 - part, shortest), longest)


class Waiting:
    """The requests of one handler that wait in one thread for the next question. Made in that thread.

    Args:
        told: whether the application says what is ready.
    Attributes:
        told: likewise.
        said: how often somebody has said so, as far as those who ask know.
        over: whether this process was forked from the one in which they wait.
    """

    def __init__(self, told: bool) -> None:
        self.told, self.said, self.over = told, 0, False
        self._loop = get_hub().loop
        self._turns = Turns()
        self._experience = Experience()
        self._rounds: list[dict[greenlet, None]] = [{} for _ in range(MOST)]
        self._due = [0] * MOST
        self._timer: Any = self._loop.timer(0)
        self._timer_ends = 0
        self._batches: deque[dict[greenlet, None]] = deque()
        self._asking = False
        self._spent = 0.0
        self._rest_ends = 0
        self._where: dict[int, greenlet] = {}
        self._named: deque[Request] = deque()
        self._all_named = self._knocked = False
        forked.arm(self)

    # -- who waits -------------------------------------------------------------------------------------------------

    def ask(self, handle_request: Callable[[Any], Any], request: Request, said: int) -> Any:
        """HANDLER. Ask until there is a reply, and return it. **Blocks** the calling greenlet between the questions.

        Args:
            said: ``self.said`` before the first question, which has been asked.
        """
        began, me, key = monotonic(), getcurrent(), id(request)
        self._where[key] = me
        try:
            while True:
                if said == self.said:       # otherwise it was said while the handler that was asked has blocked
                    self._wait(me, began)
                said = self.said
                result = handle_request(request)
                if not is_pending(result):
                    if not self.told:
                        self._experience.learn(int(1000 * (monotonic() - began)))
                    return result
        finally:
            if self._where.get(key) is me:
                del self._where[key]

    def _wait(self, me: greenlet, began: float) -> None:
        """HANDLER. Until the next question."""
        now = monotonic()
        age = int(1000 * (now - began))
        pause = _pause(age, *TOLD) if self.told else self._experience.pause(age)
        round_ = self._rounds[pause]
        if not round_:
            self._due[pause] = (_tick(now) >> pause) + 1 << pause
            self._set_timer(self._due[pause], now)
        round_[me] = None
        hub = get_hub()
        try:
            while me in round_:
                hub.switch()
        except BaseException:                   # it is killed
            round_.pop(me, None)
            if not any(self._rounds):
                self._stop_timer()
            raise

    # -- by time ---------------------------------------------------------------------------------------------------

    def _set_timer(self, due: int, now: float) -> None:
        """HANDLER or HUB. Wake up then, or before; while questions are asked, their end sees to it."""
        due = max(due, self._rest_ends)
        if self._asking or (self._timer_ends and self._timer_ends <= due):
            return
        self._timer_ends = due
        self._timer.close()
        self._timer = self._loop.timer(max(due / 1000 - now, 0.0001))
        self._timer.start(self._time_is_up)

    def _stop_timer(self) -> None:
        """HANDLER or HUB. Nothing waits."""
        self._timer.close()
        self._timer_ends = 0

    def _time_is_up(self) -> None:
        """HUB."""
        self._timer_ends = 0
        tick = _tick(monotonic())
        for pause, round_ in enumerate(self._rounds):
            if round_ and self._due[pause] <= tick:
                self._take(pause)
        self._ask()

    def _take(self, pause: int) -> None:
        """HUB. Let those of a round be asked."""
        self._batches.append(self._rounds[pause])
        self._rounds[pause] = {}

    # -- the questions ---------------------------------------------------------------------------------------------

    def _ask(self) -> None:
        """HUB. Ask those who are to be asked, one after the other, for as long as this turn of the loop may take."""
        self._asking = True
        began = now = monotonic()
        until = self._turns.begin()
        try:
            while self._batches:
                batch = self._batches[0]
                for waiting in list(batch):
                    if waiting in batch:            # it may have been killed meanwhile
                        del batch[waiting]
                        waiting.switch()
                        now = monotonic()
                        if now >= until:
                            self._spent += now - began
                            self._turns.soon(self._ask)
                            return
                self._batches.popleft()
        except BaseException:                       # Ctrl-C: it reaches whoever it is for, and the others wait no longer for it
            self._loop.run_callback(self._ask)
            raise
        self._asking = False
        self._rest_ends = _tick(now + SHARE * (self._spent + now - began))
        self._spent = 0.0
        due = [self._due[pause] for pause, round_ in enumerate(self._rounds) if round_]
        if due:
            self._set_timer(min(due), now)
        else:
            self._stop_timer()

    # -- when told -------------------------------------------------------------------------------------------------

    def tell(self, request: Request | None) -> None:
        """ANY THREAD. The reply to that request is ready; None: whichever are."""
        if request is None:
            self._all_named = True
        else:
            self._named.append(request)
        if not self._knocked:
            self._knocked = True
            with suppress(ValueError):          # the loop has been destroyed: nothing waits there
                self._loop.run_callback_threadsafe(self._let_in)

    def _let_in(self) -> None:
        """HUB. The knock is forgotten first: what is said later knocks again."""
        self._knocked = False
        self.told = True
        self.said += 1
        everybody, self._all_named = self._all_named, False
        if everybody:
            for pause, round_ in enumerate(self._rounds):
                if round_:
                    self._take(pause)
        named: dict[greenlet, None] = {}
        while self._named:
            waiting = self._where.get(id(self._named.popleft()))
            for round_ in self._rounds if waiting is not None else ():
                if waiting in round_:
                    del round_[waiting]
                    named[waiting] = None
        if named:
            self._batches.append(named)
        if self._batches and not self._asking:
            self._ask()

    def disarm(self) -> None:
        """In a forked child: those that wait, wait in the parent."""
        self.over = True
        self._stop_timer()
        self._batches.clear()


def _tick(now: float) -> int:
    """Milliseconds, to the nearest: a timer of libuv may be early by a part of one."""
    return int(1000 * now + 0.5)


def is_pending(result: object) -> bool:
    """Return whether a handler has said "not ready": None, False or an empty tuple."""
    return result is None or result is False or (issubclass(type(result), tuple) and not result)


class UntilReady:
    """A handler of the poll loop's convention, as the server calls it: ``until_ready`` makes it."""

    def __init__(self, handle_request: Callable[[Any], Any]) -> None:
        update_wrapper(self, handle_request, updated=())
        self._handle_request = handle_request
        self._told = False
        self._waiting: WeakKeyDictionary[Any, Waiting] = WeakKeyDictionary()

    def __call__(self, request: Request) -> Any:
        waiting = self._waiting.get(get_hub())
        if waiting is None or waiting.over:
            waiting = self._waiting[get_hub()] = Waiting(self._told)
        said = waiting.said
        result = self._handle_request(request)
        return waiting.ask(self._handle_request, request, said) if is_pending(result) else result

    def ready(self, request: object = None) -> None:
        """Say that a reply has become ready, and ask the handler for it at once.

        Whoever makes a reply ready calls this behind it: ``future.add_done_callback(handler.ready)``. From then on the
        handler is asked by time only as a net: a reply of which nobody tells is late by a second, or by an eighth of what
        it took.

        Args:
            request: the one to ask about. Without it, or with anything else than a Request (the future with which
                ``add_done_callback`` calls), all that wait are asked about.
        **Thread-safe**: from any greenlet, OS thread or signal handler, and at any time. Many calls make one wake-up.
        """
        self._told = True
        only = request if isinstance(request, Request) else None
        for known in self._waiting.keyrefs():
            hub = known()
            waiting = self._waiting.get(hub) if hub is not None else None
            if waiting is not None and not waiting.over:
                waiting.tell(only)


def until_ready(handle_request: Callable[[Any], Any]) -> UntilReady:
    """Keep the calling convention of the hand-written loop: a falsy result means "not ready, ask again".

    Args:
        handle_request: called with the request, which unpacks as ``(client_id, data)``; returns a reply, or None, False
            or ``()`` for "not ready". ``b""`` is an empty reply.
    Returns:
        A handler. Each request is asked about again every millisecond while it is young, or as old as others were when
        they became ready, and less often elsewhere, without delaying others; all that wait share one timer.

    Tell it, when you can, what is ready: whoever makes it ready calls the handler's ``ready``, from any thread, and it is
    asked at once; then almost nothing is asked in vain. As a decorator that is::

        @until_ready
        def handle_request(request):
            client_id, data = request
            if request not in jobs:
                jobs[request] = pool.submit(work, data)
                jobs[request].add_done_callback(handle_request.ready)
            ...

    Or let the handler wait. It runs in a greenlet of its own, so it may block on anything that gevent knows (a socket, a
    queue, ``gevent.sleep``), return a future, or keep the request and call ``request.reply(...)`` when the result is
    there. Then nothing is asked twice, and the reply leaves at once.
    """
    refuse_async("until_ready", handle_request)
    return handle_request if isinstance(handle_request, UntilReady) else UntilReady(handle_request)
