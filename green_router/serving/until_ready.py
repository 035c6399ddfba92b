"""Handlers of the poll loop's convention, which are asked again until their reply is ready.

Rules of this file
  1. A request is asked about in the greenlet in which it was asked about first: it keeps its
     context and its locals, and a handler that blocks when it is asked delays no other.
  2. All that wait in a thread have one timer. Pauses are powers of two of a millisecond, and
     questions stand at multiples of their pause: those about different requests share wake-ups.
     Where nothing waits there is no timer.
  3. How long a pause is, pauses.py says, from the ages at which earlier replies were ready.
  4. Asking takes a third of the time at the most, however many wait: then the pauses are longer.
  5. Where the application says what is ready, it is asked at once, and time is only the net below:
     a reply of which nobody tells is late by an eighth of what it took, by a second at the least.
  6. What another thread says goes through one callback of the hub, however often it is said until
     that has run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import update_wrapper
from time import monotonic, thread_time
from typing import Any
from weakref import WeakKeyDictionary

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from ..async_functions import refuse_async
from ..hub import forked
from ..messages.request import Request
from .departures import has_departed
from .greenlets import Hold
from .pauses import TOLD, Experience, pause_at
from .turns import Turns

NO_HOLD = Hold(None)
"""Of a greenlet that is no handler's."""

REST = 2
"""Times as long as the questions of a round took, nobody is asked after it. About 1,000 requests
they take a millisecond."""


class Waiting:
    """The requests of one handler that wait in one thread for the next question. Made in that
    thread.

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
        self._rounds: dict[int, dict[greenlet, None]] = {}  # by pause: those that wait so long ...
        self._due: dict[int, int] = {}  # ... and until when
        self._timer: Any = self._loop.timer(0)
        self._timer_ends = self._timer_repeats = 0
        self._batches: deque[dict[greenlet, None]] = deque()  # those that are asked now
        self._asking = False
        self._spent = 0.0
        self._rest_ends = 0
        self._where: dict[int, greenlet] = {}  # by the id of the request
        self._named: deque[Request] = deque()
        self._all_named = self._drain_scheduled = False
        forked.arm(self)

    # -- who waits ---------------------------------------------------------------------------------

    def ask(self, handle_request: Callable[[Any], Any], request: Request, said: int) -> Any:
        """HANDLER. Ask until there is a reply, and return it. **Blocks** the calling greenlet
        between the questions.

        Args:
            said: ``self.said`` before the first question, which has been asked.
        """
        began, me, to_hub, key = monotonic(), getcurrent(), get_hub().switch, id(request)
        hold = getattr(me, "hold", NO_HOLD)
        until = 0
        self._where[key] = me
        try:
            # Otherwise its client has gone while the handler that was asked has blocked.
            while not has_departed(request):
                # Otherwise it was said while the handler that was asked has blocked.
                if said == self.said:
                    now = monotonic()
                    age = int(1000 * (now - began))
                    if self.told:
                        pause = pause_at(age, *TOLD)
                    elif age >= until:
                        pause, until = self._experience.pause(age)
                    round_ = self._rounds.get(pause)
                    if round_ is None:
                        round_ = self._begin_round(pause, now)
                    round_[me] = None
                    hold.put_off = True
                    while me in round_:
                        to_hub()
                    hold.put_off = False
                said = self.said
                result = handle_request(request)
                if not is_pending(result):
                    if not self.told:
                        self._experience.learn(int(1000 * (monotonic() - began)))
                    return result
            return None
        except BaseException:  # killed, perhaps while it waited
            self._leave(me)
            raise
        finally:
            hold.put_off = False
            if self._where.get(key) is me:
                del self._where[key]

    def _leave(self, me: greenlet) -> bool:
        """HANDLER or HUB. Wait no more; False if it did not wait."""
        for pause, round_ in self._rounds.items():
            if me in round_:
                del round_[me]
                if not round_:
                    self._take(pause)
                    if not self._rounds:
                        self._stop_timer()
                return True
        for batch in self._batches:
            if me in batch:
                del batch[me]
                return True
        return False

    # -- by time -----------------------------------------------------------------------------------

    def _begin_round(self, pause: int, now: float) -> dict[greenlet, None]:
        """HANDLER. Nobody waits so long yet."""
        round_ = self._rounds[pause] = {}
        due = self._due[pause] = (_tick(now) >> pause) + 1 << pause
        if not self._asking and (
            not self._timer_ends or max(due, self._rest_ends) < self._timer_ends
        ):
            self._set_timer(due, now)
        return round_

    def _take(self, pause: int) -> dict[greenlet, None]:
        """HANDLER or HUB. End a round."""
        del self._due[pause]
        return self._rounds.pop(pause)

    def _set_timer(self, due: int, now: float) -> None:
        """HANDLER or HUB. Wake up then, or when the rest is over. A timer that repeats is left
        alone where it is right."""
        due = max(due, self._rest_ends)
        if due != self._timer_ends:
            self._timer_ends, self._timer_repeats = due, max(due - _tick(now), 1)
            self._timer.close()
            self._timer = self._loop.timer(self._timer_repeats / 1000, self._timer_repeats / 1000)
            self._timer.start(self._time_is_up)

    def _stop_timer(self) -> None:
        """HANDLER or HUB. Nobody waits."""
        self._timer.stop()
        self._timer_ends = 0

    def _time_is_up(self) -> None:
        """HUB."""
        tick = _tick(monotonic())
        self._timer_ends = tick + self._timer_repeats
        if not self._asking:
            for pause in [pause for pause, due in self._due.items() if due <= tick]:
                self._batches.append(self._take(pause))
            self._ask()

    # -- the questions -----------------------------------------------------------------------------

    def _ask(self) -> None:
        """HUB. Ask those who are to be asked, one after the other, for as long as this turn of the
        loop may take."""
        self._asking = True
        began = thread_time()
        until = self._turns.begin()
        try:
            while self._batches:
                batch = self._batches[0]
                for waiting in list(batch):
                    if waiting in batch:  # it may have been killed meanwhile
                        del batch[waiting]
                        waiting.switch()
                        if monotonic() >= until:
                            self._spent += thread_time() - began
                            self._turns.soon(self._ask)
                            return
                self._batches.popleft()
        except BaseException:  # Ctrl-C, for whomever it is: the others still wait to be asked
            self._loop.run_callback(self._ask)
            raise
        self._asking = False
        if self._rounds:
            now = monotonic()
            self._rest_ends = _tick(now + REST * (self._spent + thread_time() - began))
            self._set_timer(min(self._due.values()), now)
        else:
            self._stop_timer()
        self._spent = 0.0

    # -- when told ---------------------------------------------------------------------------------

    def tell(self, request: Request | None) -> None:
        """ANY THREAD. The reply to that request is ready; None: whichever are."""
        if request is None:
            self._all_named = True
        else:
            self._named.append(request)
        if not self._drain_scheduled:
            self._drain_scheduled = True
            with suppress(ValueError):  # the loop has been destroyed: nothing waits there
                self._loop.run_callback_threadsafe(self._let_in)

    def _let_in(self) -> None:
        """HUB. The knock is forgotten first: what is said later knocks again."""
        self._drain_scheduled = False
        self.told = True
        self.said += 1
        everybody, self._all_named = self._all_named, False
        if everybody:
            self._batches.extend(map(self._take, list(self._rounds)))
        named: dict[greenlet, None] = {}
        while self._named:
            waiting = self._where.get(id(self._named.popleft()))
            if waiting is not None and self._leave(waiting):
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
        for known in self._waiting.keyrefs():
            hub = known()
            waiting = self._waiting.get(hub) if hub is not None else None
            if waiting is not None and not waiting.over:
                waiting.tell(only)


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
