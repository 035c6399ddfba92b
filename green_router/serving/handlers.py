"""The greenlets that run the handler.

Rules of this file
  1. The owner puts requests in ``inbox`` and calls ``schedule``, if the hub is not about to call
     ``relay`` anyway; replies go to the mailbox, and behind the handlers the owner has its turn
     (``Mailbox.wake``). Nothing else passes.
  2. Greenlets are reused: making one costs more than all else that happens to a quick request. One
     takes request after request from the inbox for as long as no handler blocks; when one does, the
     hub starts the next greenlet. So a run of quick handlers costs no switches, and thousands of
     blocked ones cost a greenlet each.
  3. Nobody notices that (greenlets.py). Each request runs in a copy of the context (contextvars) in
     which the server was started; a greenlet that anybody else knows, or that has links to be
     called, takes no further request.
  4. At most ``concurrency`` handlers run at once; the others wait in order of arrival.
  5. What a handler did is judged in results.py and failures.py. Here it is only called, and a plain
     result, the rule (bytes, a list of them, the loop's pair), goes straight on: if it is in time,
     and nothing from other threads must go before it.
  6. Handlers that do not block have a slice of time; then the loop turns (turns.py), and they go
     on.

Tasks are callables that run code of the application on the serving thread (``on_error``, mostly):
they may block, so they too need a greenlet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Protocol
from weakref import getweakrefcount

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from ..hub import forked
from ..messages.body import plain
from ..messages.in_flight import Holder, InFlight
from ..messages.ledger import ANSWERED
from ..messages.request import Request
from .contexts import StartContext
from .deadlines import Deadlines
from .failures import Failures
from .greenlets import HandlerGreenlet, Hold, left_nothing, references
from .mailbox import Mailbox
from .results import Results
from .turns import Turns
from .until_ready import UntilReady

MAX_IDLE = 4096
"""Idle greenlets kept; beyond, they end and give their memory back. Making one costs as much as all
else that happens to a request whose handler waits: with 1,000 of those in flight, keeping 256 gave
0.6 of the rate, at 1.7 times the processor time. One keeps some 7 kB."""


class Workplace(Protocol):
    """Where handlers run: the greenlets of this file, or other processes
    (processes/front/dispatcher.py)."""

    inbox: deque[Request]
    scheduled: bool
    """Whether ``relay`` will be called soon."""

    def schedule(self) -> None:
        """See to it that the hub runs what is in the inbox."""

    def relay(self) -> None:
        """HUB. Run what is in the inbox, now, and let what comes of it leave: wake the mailbox."""

    def run(self, task: Callable[[], None]) -> None:
        """Call this in a greenlet where it may block, soon."""

    def occupy(self, change: int) -> None:
        """Serving thread. So many coroutines more, or fewer, are at work, each in the place of a
        greenlet."""

    def quiet(self, told: Callable[[], None]) -> bool:
        """HUB or OWNER. True if no handler is at work; otherwise ``told`` is called when the last
        one has ended."""

    def at_work(self) -> list[Holder]:
        """The holders that have a request in hand, whether it has its reply or not."""

    def peer_gone(self, request: Request) -> None:
        """OWNER. The connection that this open request came by has ended."""

    def abandon(self) -> list[Request]:
        """Take back the requests that no handler has seen. The caller settles them."""

    def close(self) -> None:
        """HUB or OWNER. Nothing runs here any more."""


class Handlers:
    """Runs ``handle`` for each request in the inbox. Made in the serving thread.

    Args:
        handle: the user's callable.
        concurrency: how many requests it may have in hand at once; None for no limit.
        inbox: requests that wait for a greenlet; the owner appends.
        in_flight: the table of open requests.
        results, failures: what becomes of results and exceptions.
        mailbox: for the replies.
        deadlines: told when handlers were started.
        turns: of the loop.
    Attributes:
        inbox: likewise.
        running: how many greenlets have a request in hand.
        scheduled: as ``Workplace`` says.
    """

    def __init__(
        self,
        handle: Callable[[Request], Any],
        concurrency: int | None,
        inbox: deque[Request],
        in_flight: InFlight,
        results: Results,
        failures: Failures,
        mailbox: Mailbox,
        deadlines: Deadlines,
        turns: Turns,
    ) -> None:
        self._handle = handle.begin if isinstance(handle, UntilReady) else handle
        self._in_flight, self._mailbox = in_flight, mailbox
        self._results, self._failures = results, failures
        self._deadlines, self._turns = deadlines, turns
        self._concurrency = inf if concurrency is None else concurrency
        self._context = StartContext()
        self._hub = get_hub()
        # One of each for all greenlets. greenlet's own switch: gevent's asks first who it is that
        # goes, which only matters where it may be the hub.
        self._to_hub: Callable[[], Any] = greenlet.switch.__get__(self._hub)
        self._claim = in_flight.open.pop
        self.inbox = inbox
        self.running = 0
        self._tasks: deque[Callable[[], None]] = deque()
        self._idle: list[HandlerGreenlet] = []
        self._most_idle = MAX_IDLE
        self._told: Callable[[], None] | None = None
        self._idle_references = 0
        self._started: Any = None
        self._holds: set[Hold] = set()
        self.scheduled = False
        self._until = self._now = 0.0
        forked.arm(self)

    def schedule(self) -> None:
        """See to it that the hub runs what is in the inbox."""
        if not self.scheduled:
            self.scheduled = True
            self._turns.soon(self.relay)

    def run(self, task: Callable[[], None]) -> None:
        """Call this in a handler greenlet, soon."""
        self._tasks.append(task)
        self.schedule()

    def relay(self) -> None:
        """HUB. Start greenlets until nothing waits: each comes back when its handler blocks, or its
        time is over. Then the owner sends what they have made."""
        self.scheduled = False
        inbox, tasks, concurrency = self.inbox, self._tasks, self._concurrency
        try:
            until = self._until = self._turns.begin()
            self._now = monotonic()
            while tasks or (inbox and self.running < concurrency):
                self._start(tasks.popleft() if tasks else None)
                self._now = now = monotonic()
                if now >= until:
                    if tasks or inbox:
                        self.schedule()
                    break
            if not self._deadlines.watching:
                self._deadlines.watch()
        except BaseException as error:
            self._failures.bug(error)
        self._mailbox.wake()

    def _start(self, task: Callable[[], None] | None) -> None:
        """HUB. Let a greenlet do this, or take requests; returns when it blocks, or is idle."""
        idle = self._idle
        while idle:
            handler = idle.pop()
            if references(handler) == self._idle_references and not getweakrefcount(handler):
                break
            handler.end()  # somebody else has it
        else:
            self._make(task)
            return
        handler.at_work = True
        self._started = handler
        handler.switch(task)
        self._started = None

    def _make(self, task: Callable[[], None] | None) -> None:
        """HUB. Let a new greenlet do the same. It has not been idle before: then it would keep a
        frame object for as long as it lives, and make two switches more."""
        if not self._idle_references and self._most_idle:
            self._measure()
        handler = HandlerGreenlet(Handlers._work, self._hub)
        self._holds.add(handler.hold)
        handler.at_work = True
        self._started = handler
        handler.switch(self, task)
        self._started = None

    def _measure(self) -> None:
        """HUB. See how many references there are to one that is idle and nobody else's."""
        first = HandlerGreenlet(Handlers._work, self._hub)
        self._holds.add(first.hold)
        first.switch(self, bool)  # a task that does nothing
        self._idle_references = references(self._idle.pop())
        self._idle.append(first)

    def _work(self, task: Callable[[], None] | None) -> None:
        """HANDLER. Do the task or take requests until there are none, wait to be started, again."""
        me: Any = getcurrent()
        hold = me.hold
        handle, inbox, context = self._handle, self.inbox, self._context
        results, failures = self._results, self._failures
        mailbox, in_flight = self._mailbox, self._in_flight.open
        claim, put, add, threadsafe = self._claim, mailbox.put, mailbox.add, mailbox.threadsafe
        seconds = inf if self._deadlines.seconds is None else self._deadlines.seconds
        to_hub, idle = self._to_hub, self._idle
        alone = references(me)
        try:
            while True:
                if task is not None:
                    self._run_task(task)
                    task = None  # an idle greenlet keeps nobody's request
                else:
                    self.running += 1
                    now = self._now
                    while inbox:
                        if not context.empty:
                            me.gr_context = context.copy()
                        hold.request = request = inbox.popleft()
                        key = id(request)
                        in_flight[key] = hold
                        deadline = request.received_at + seconds
                        try:
                            if now >= deadline:
                                result = None  # it has waited too long: no handler sees it
                            else:
                                result = handle(request)
                                now = monotonic()
                            if now >= deadline:
                                failures.time_out(request, seconds)  # the timer had no turn
                            body = (
                                result
                                if type(result) is bytes
                                else plain(result, request.frames[0])
                            )
                            if body is not None and not threadsafe and claim(key, None) is not None:
                                # ``relay``, which has called one that has not blocked, or will be
                                # called, wakes the owner.
                                (add if self._started is me or self.scheduled else put)(
                                    (request, body, ANSWERED)
                                )
                            else:
                                results.finish(request, result)
                        except BaseException as error:
                            now = monotonic()
                            if now >= deadline:
                                failures.time_out(request, seconds)
                            failures.fail(request, error)
                        hold.request = None
                        del request
                        result = body = None
                        if not left_nothing(me, alone):
                            me.gr_context = None
                            me.__dict__.clear()
                            # It goes on only where it is known to be nobody else's: behind a
                            # handler that has blocked, those who have resumed it count as well.
                            if not left_nothing(me, alone):
                                break
                        if self._started is not me or now >= self._until:
                            break
                    self.running -= 1
                    if inbox and not self.scheduled:
                        self.schedule()
                me.at_work = False
                if me.links is not None:
                    self._hub.loop.run_callback(self._call_links, me)
                elif len(idle) < self._most_idle:
                    idle.append(me)
                else:
                    self._tell_if_quiet()
                    return
                task = to_hub()
        except BaseException as error:
            failures.bug(error)  # not the handler's: the server ends
        finally:
            hold.greenlet = None
            self._holds.discard(hold)

    def _run_task(self, task: Callable[[], None]) -> None:
        me: Any = getcurrent()
        if not self._context.empty:
            me.gr_context = self._context.copy()
        try:
            task()
        except BaseException as error:
            self._failures.bug(error)
        me.gr_context = None
        me.__dict__.clear()

    def _call_links(self, handler: HandlerGreenlet) -> None:
        """HUB. Tell those who have linked that its request has ended, gevent's locals among them;
        then it is idle."""
        links, handler.links = handler.links or [], None
        for link in links:
            try:
                link(handler)
            except BaseException as error:
                self._hub.handle_error(handler, type(error), error, error.__traceback__)
        if self._most_idle:
            self._idle.append(handler)
        else:
            handler.end()
            self._tell_if_quiet()

    def quiet(self, told: Callable[[], None]) -> bool:
        """HUB or OWNER. True if no handler is at work; otherwise ``told`` is called when the last
        one has ended."""
        self._told = told
        self.close()
        return not self.running

    def _tell_if_quiet(self) -> None:
        if self._told is not None and not self.running:
            self._told()

    def occupy(self, change: int) -> None:
        """Serving thread. So many coroutines more, or fewer, are at work, each in the place of a
        greenlet."""
        self.running += change
        if self.running > self._concurrency:
            self._until = 0.0  # the greenlet that has begun it takes no further request
        elif change < 0:
            if self.inbox:
                self.schedule()
            self._tell_if_quiet()

    def at_work(self) -> list[Holder]:
        """The holders that have a request in hand, whether it has its reply or not."""
        greenlets: list[Holder] = [
            hold for hold in self._holds if hold.request is not None and hold.greenlet is not None
        ]
        return [*greenlets, *self._results.coroutines.at_work(), *self._results.questions]

    def peer_gone(self, request: Request) -> None:
        """OWNER. The connection that this open request came by has ended."""
        self._results.departures.settle(request)

    def abandon(self) -> list[Request]:
        """Take back the requests that no handler has seen. The caller settles them."""
        waiting = list(self.inbox)
        self.inbox.clear()
        return waiting

    def close(self) -> None:
        """HUB or OWNER. End the idle greenlets; those that run end with what they have in hand."""
        self._most_idle = 0
        while self._idle:
            self._hub.loop.run_callback(self._idle.pop().end)

    def disarm(self) -> None:
        """In a forked child: begin nothing, and let nothing go on but what has forked."""
        self.inbox.clear()
        self._tasks.clear()
        forked.hold([hold.greenlet for hold in self._holds if hold.greenlet is not None])
