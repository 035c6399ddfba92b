"""Calls of the application's on_error, each within the limit that a handler has.

Rules of this file
  1. Each call ends once, and is told of once: with what on_error returned, with what it raised, or,
     when it takes longer than ``handler_timeout`` from when it was asked, with HandlerTimeout. What
     it does afterwards is nobody's business.
  2. What is told leaves first; then the greenlet of a call that was given up is ended, which its
     code may refuse.
  3. The limit is the same for all, so calls stand in the order of their deadlines, and one timer is
     enough. While none is made there is none.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

from gevent.hub import get_hub
from greenlet import GreenletExit, getcurrent

from ..errors import HandlerTimeout
from ..hub.log import Log
from ..hub.log_throttle import LogThrottle
from ..messages.body import body_of
from ..messages.request import Request
from .mailbox import Mailbox

log = Log("handlers")

SHORTEST = 0.001
"""Seconds: libuv has no shorter timers, and warns."""

Answered = Callable[[bytes | list[bytes] | None, BaseException | None], None]
"""``answered(body, failure)``: what a client gets, if anything; what went wrong, if anything."""


class Call:
    """One call. Attributes: greenlet, where it runs; None before and afterwards."""

    __slots__ = ("answered", "asked_at", "error", "greenlet", "request")

    def __init__(self, request: Request, error: BaseException, answered: Answered) -> None:
        self.request, self.error, self.answered = request, error, answered
        self.asked_at = monotonic()
        self.greenlet: Any = None


class OnError:
    """Calls on_error. Made in the serving thread.

    Args:
        function: the application's.
        seconds: the limit; None for none.
        mailbox: what ends a greenlet goes through it, behind the reply.
        run: ``run(task)``, call this in a handler greenlet.
        crash: called with a SystemExit or a KeyboardInterrupt that comes out of on_error.
    Attributes:
        seconds: the limit.
    """

    def __init__(
        self,
        function: Callable[[Request, BaseException], Any],
        seconds: float | None,
        mailbox: Mailbox,
        run: Callable[[Callable[[], None]], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        self._crash, self._log_throttle = crash, LogThrottle()
        self._function, self.seconds, self._mailbox, self._run = function, seconds, mailbox, run
        self._loop = get_hub().loop
        self._timer = self._loop.timer(0)
        self._watching = False
        self._calls: dict[Call, None] = {}

    def ask(self, request: Request, error: BaseException, answered: Answered) -> None:
        """Serving thread. Ask, in a greenlet where on_error may block; ``answered`` is called
        there, or in the hub."""
        call = Call(request, error, answered)
        self._calls[call] = None
        self._run(partial(self._call, call))
        if self.seconds is not None and not self._watching:
            self._watch(self.seconds)

    def _call(self, call: Call) -> None:
        """HANDLER, as a task."""
        if call not in self._calls:  # it has waited for its turn for too long
            return
        body = failure = None
        call.greenlet = getcurrent()
        try:
            answer = self._function(call.request, call.error)
            body = None if answer is None else body_of(answer, "on_error")
        except BaseException as second:
            failure = second
        finally:
            call.greenlet = None
        if call in self._calls:
            del self._calls[call]
            self._end_call(call, body, failure)

    def _end_call(
        self, call: Call, body: bytes | list[bytes] | None, failure: BaseException | None
    ) -> None:
        """HANDLER or HUB. Tell of its end, and log a failure."""
        call.answered(body, failure)
        if isinstance(failure, (SystemExit, KeyboardInterrupt)):
            self._crash(failure)
        if failure is not None and self._log_throttle.worth_saying():
            log.error(
                "on_error failed on %r, after %s: %s; the client gets no reply%s",
                call.request,
                type(call.error).__name__,
                call.error,
                self._log_throttle.others(),
                error=failure,
            )

    def _watch(self, seconds: float) -> None:
        self._timer.close()
        self._timer = self._loop.timer(max(seconds, SHORTEST))
        self._timer.start(self._look)
        self._watching = True

    def _look(self) -> None:
        """HUB. Give up what is overdue, and watch the next."""
        self._watching = False
        assert self.seconds is not None
        for call in list(self._calls):
            left = call.asked_at + self.seconds - monotonic()
            if left > 0:
                self._watch(left)
                return
            del self._calls[call]
            error = HandlerTimeout(self.seconds)
            self._end_call(call, None, error)
            self._mailbox.put(partial(self._loop.run_callback, _end, call, error))

    def abandon(self) -> None:
        """HUB or OWNER. End the calls that are made; nobody is told of them any more."""
        for call in self._calls:
            self._loop.run_callback(_end, call, GreenletExit())
        self._timer.close()
        self.forget()

    def forget(self) -> None:
        """ANY THREAD. Nobody is told of any call any more."""
        self._calls.clear()


def _end(call: Call, error: BaseException) -> None:
    """HUB."""
    if call.greenlet is not None:
        call.greenlet.throw(error)
