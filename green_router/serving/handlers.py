"""The greenlets that run the handler.

Rules of this file
  1. The owner puts requests in ``inbox`` and calls ``schedule``; replies go to the mailbox. Nothing else passes.
  2. Greenlets are reused: making one costs more than all else that happens to a quick request. One takes request after
     request from the inbox for as long as no handler blocks; when one does, the hub starts the next greenlet. So a run
     of quick handlers costs no switches, and thousands of blocked ones cost a greenlet each.
  3. Each request runs in a context (contextvars) of its own.
  4. What a handler did is judged in outcomes.py. Here it is only called, and a plain ``bytes`` result, the rule, goes
     straight on: if it is in time, and nothing from other threads must go before it.

Errands are callables that run code of the application on the serving thread (``on_error``, mostly): they may block, so
they too need a greenlet.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Any, Protocol

from gevent.hub import get_hub
from greenlet import getcurrent, greenlet

from ..messages.in_flight import InFlight
from ..messages.ledger import ANSWERED
from ..messages.request import Request
from .deadlines import Deadlines
from .mailbox import Mailbox
from .outcomes import Outcomes

SLICE = 0.001
"""Seconds for which handlers that do not block may run before the owner gets its turn to send what they made. Shorter
makes batches small (a system call each way for every few replies), longer makes finished replies wait."""

MAX_IDLE = 4096
"""Idle greenlets kept; beyond, they end and give their memory back. Making one costs as much as all else that happens to a
request whose handler waits: with 1,000 of those in flight, keeping 256 gave 0.6 of the rate, at 1.7 times the processor
time. One keeps some 7 kB."""


class HandlerGreenlet(greenlet):
    """A greenlet that runs handlers; ``request`` is the one that it has in hand."""

    request: Request | None = None


class Workplace(Protocol):
    """Where handlers run: the greenlets of this file, or other processes (processes/dispatcher.py)."""

    inbox: deque[Request]

    def schedule(self) -> None:
        """See to it that the hub runs what is in the inbox."""

    def run(self, errand: Callable[[], None]) -> None:
        """Call this in a greenlet where it may block, soon."""

    def abandon(self) -> list[Request]:
        """Take back the requests that no handler has seen. The caller settles them."""

    def close(self) -> None:
        """HUB or OWNER. Nothing runs here any more."""


class Handlers:
    """Runs ``handle`` for each request in the inbox. Made in the serving thread.

    Args:
        handle: the user's callable.
        in_flight: the table of open requests.
        outcomes: what becomes of results and exceptions.
        mailbox: for the replies.
        deadlines: told when handlers were started.
    Attributes:
        inbox: requests that wait for a greenlet; the owner appends.
    """

    def __init__(self, handle: Callable[[Request], Any], in_flight: InFlight, outcomes: Outcomes, mailbox: Mailbox,
                 deadlines: Deadlines) -> None:
        self._handle, self._in_flight, self._outcomes, self._mailbox = handle, in_flight, outcomes, mailbox
        self._deadlines = deadlines
        self._hub = get_hub()
        self.inbox: deque[Request] = deque()
        deadlines.waiting = self.inbox
        self._errands: deque[Callable[[], None]] = deque()
        self._idle: list[HandlerGreenlet] = []
        self._scheduled = False
        self._until = 0.0

    def schedule(self) -> None:
        """See to it that the hub runs what is in the inbox."""
        if not self._scheduled:
            self._scheduled = True
            self._hub.loop.run_callback(self._relay)

    def run(self, errand: Callable[[], None]) -> None:
        """Call this in a handler greenlet, soon."""
        self._errands.append(errand)
        self.schedule()

    def _relay(self) -> None:
        """HUB. Start greenlets until nothing waits: each comes back when its handler blocks, or its time is over."""
        self._scheduled = False
        inbox, errands, idle = self.inbox, self._errands, self._idle
        self._until = monotonic() + SLICE
        while inbox or errands:
            (idle.pop() if idle else HandlerGreenlet(self._work, self._hub)).switch()
            if monotonic() >= self._until:
                break
        if inbox or errands:
            self.schedule()
        if not self._deadlines.watching:
            self._deadlines.watch()

    def _work(self) -> None:
        """HANDLER. Take requests until there are none, wait in ``idle``, again."""
        me: Any = getcurrent()
        handle, inbox, errands, outcomes = self._handle, self.inbox, self._errands, self._outcomes
        in_flight, claim, put, door = self._in_flight.open, self._in_flight.open.pop, self._mailbox.put, self._mailbox.door
        seconds = inf if self._deadlines.seconds is None else self._deadlines.seconds
        to_hub, idle = self._hub.switch, self._idle
        while True:
            while errands:
                self._run_errand(errands.popleft())
            now = monotonic()
            while inbox:
                me.request = request = inbox.popleft()
                key = id(request)
                in_flight[key] = me
                try:
                    if now - request.received_at >= seconds:
                        result = None                           # it has waited too long: no handler sees it
                    else:
                        result = handle(request)
                        now = monotonic()
                    if now - request.received_at >= seconds:
                        outcomes.time_out(request, seconds)     # the timer had no turn
                    if type(result) is bytes and not door and claim(key, None) is not None:
                        put((request, result, ANSWERED))
                    else:
                        outcomes.finish(request, result)
                except BaseException as error:
                    now = monotonic()
                    if now - request.received_at >= seconds:
                        outcomes.time_out(request, seconds)
                    outcomes.fail(request, error)
                me.request = None
                del request
                result = None
                if me.gr_context is not None:
                    me.gr_context = None
                if now >= self._until:
                    break
            if len(idle) >= MAX_IDLE:
                return
            idle.append(me)
            to_hub()

    def _run_errand(self, errand: Callable[[], None]) -> None:
        try:
            errand()
        except BaseException as error:
            self._outcomes.bug(error)
        getcurrent().gr_context = None

    def abandon(self) -> list[Request]:
        """Take back the requests that no handler has seen. The caller settles them."""
        waiting = list(self.inbox)
        self.inbox.clear()
        return waiting

    def close(self) -> None:
        """HUB or OWNER. End the idle greenlets."""
        while self._idle:
            self._hub.loop.run_callback(self._idle.pop().throw)
