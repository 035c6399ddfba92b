"""Handlers that have failed, or have taken too long: decides what becomes of their requests.

Rules of this file
  1. An error is reported once: logged with its traceback, counted, and shown to ``on_error``. Of
     many errors in a second some are logged, and all counted.
  2. ``on_error`` runs in a handler greenlet; until it has said what the client gets, its request
     has been claimed, and has no fate (``in_on_error``).
  3. A reply at a deadline leaves first; then the handler is ended, which its code may refuse.
  4. Logging may block: it is done in handler greenlets, and last.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

from gevent.hub import get_hub
from greenlet import GreenletExit

from ..errors import HandlerTimeout, PeerGone, Reject
from ..hub import forked
from ..hub.log import Log
from ..hub.log_throttle import LogThrottle
from ..messages.in_flight import InFlight
from ..messages.ledger import CALLBACK_ERRORS, FAILED, REJECTED, TIMED_OUT
from ..messages.request import Request
from ..settings import Settings
from .greenlets import end_handler
from .mailbox import Mailbox
from .on_error import OnError
from .reply_envelope import NO_ENVELOPE
from .settling import Settling

log = Log("handlers")


def at_once(request: Request, ask: Callable[[], None]) -> None:
    """Ask on_error, and tell nobody before."""
    ask()


class Failures:
    """Judges exceptions and deadlines. Made in the serving thread.

    Args:
        name: of the handler, for messages.
        settings: of the server: ``on_error``, ``handler_timeout``.
        settling, in_flight, mailbox: the neighbours.
        crash: called with an exception that is a bug of this package, or asks the process to end.
        run: ``run(task)``, of the workplace.
        asking: called with each request whose on_error is to be asked, and with what asks it.
        limits_on_error: whether ``handler_timeout`` holds for on_error here.
    Attributes:
        on_error: calls the application's, if there is one.
        in_on_error: requests that have failed and whose on_error has not returned, by their keys.
    """

    def __init__(
        self,
        name: str,
        settings: Settings,
        settling: Settling,
        in_flight: InFlight,
        mailbox: Mailbox,
        crash: Callable[[BaseException], None],
        run: Callable[[Callable[[], None]], None],
        asking: Callable[[Request, Callable[[], None]], None] = at_once,
        limits_on_error: bool = True,
    ) -> None:
        self._name, self._settling, self._in_flight, self._mailbox = (
            name,
            settling,
            in_flight,
            mailbox,
        )
        self._crash, self._run, self._asking = crash, run, asking
        self.on_error = (
            None
            if settings.on_error is None
            else OnError(
                settings.on_error,
                settings.handler_timeout if limits_on_error else None,
                mailbox,
                run,
                crash,
            )
        )
        self.in_on_error: dict[int, Request] = {}
        self._loop = get_hub().loop
        self._errors, self._timeouts = LogThrottle(), LogThrottle()
        forked.arm(self)

    def fail(self, request: Request, error: BaseException, ends: bool = True) -> None:
        """HANDLER. An exception came out of the handler, or its result was none. One that asks a
        process to end does not ask this one where it came out of a future (``ends`` is False): a
        process of a pool got Ctrl-C, say."""
        if isinstance(error, Reject):
            try:
                self._settling.settle(request, self._settling.body(request, error.frames), REJECTED)
            except Exception as bad:
                self.fail(request, bad)
            return
        claimed = self._in_flight.claim(request)
        if claimed:
            if self.on_error is None:
                self._settling.put_last(request, None, FAILED)
            else:
                self._ask_on_error(self.on_error, request, error, FAILED)
        elif isinstance(error, (HandlerTimeout, PeerGone, GreenletExit)):
            return  # the end of a greenlet whose request was settled by a deadline or a stop
        if ends and isinstance(error, (SystemExit, KeyboardInterrupt)):
            self._crash(error)
        if self._errors.worth_saying():
            log.error(
                "%s failed on %r: %s: %s%s",
                self._name,
                request,
                type(error).__name__,
                error,
                self._errors.others(),
                error=error,
            )

    def time_out(self, request: Request, seconds: float) -> None:
        """HUB. A request is past its deadline: its reply leaves first, whatever its handler does
        then."""
        holder = self._in_flight.holder(request)
        if not self._in_flight.claim(request):
            return
        error = HandlerTimeout(seconds)
        if self.on_error is None:
            self._settling.put_last(request, None, TIMED_OUT)
        else:
            self._ask_on_error(self.on_error, request, error, TIMED_OUT)
        if holder is not None:
            # By way of the mailbox, behind the reply: nobody knows for how long the handler goes on
            # when it is thrown at.
            end = partial(self._loop.run_callback, end_handler, holder, request, error)
            if self.on_error is None:
                self._mailbox.put(end)
            else:
                self._run(partial(self._mailbox.put, end))
        if self._timeouts.worth_saying():
            self._run(
                partial(
                    log.warning,
                    "%s timed out on %r after %.3f s%s",
                    self._name,
                    request,
                    monotonic() - request.received_at,
                    self._timeouts.others(),
                )
            )

    def enter_on_error(self, request: Request) -> None:
        """HANDLER or HUB. on_error is asked about a request, which has been claimed."""
        self.in_on_error[id(request)] = request

    def leave_on_error(self, request: Request) -> bool:
        """HANDLER or HUB. Note that on_error has returned, or is given up: True if the caller
        settles the request."""
        return self.in_on_error.pop(id(request), None) is not None

    def _ask_on_error(
        self, on_error: OnError, request: Request, error: BaseException, fate: int
    ) -> None:
        """Let on_error decide what the client gets. The request has been claimed."""
        self.enter_on_error(request)
        self._asking(
            request,
            partial(on_error.ask, request, error, partial(self._on_error_ended, request, fate)),
        )

    def _on_error_ended(
        self,
        request: Request,
        fate: int,
        body: bytes | list[bytes] | None,
        failure: BaseException | None,
    ) -> None:
        """HANDLER or HUB. on_error has returned, has failed, or was given up."""
        if failure is not None:
            self._mailbox.put((NO_ENVELOPE, None, CALLBACK_ERRORS))
        if self.leave_on_error(request):
            self._settling.put_last(request, body, fate)

    def bug(self, error: BaseException) -> None:
        """An exception where there must be none: the server stops."""
        if not isinstance(error, GreenletExit):
            self._crash(error)

    def abandon(self) -> list[Request]:
        """OWNER or HUB. Ask on_error nothing more; returns the requests that wait for it, which the
        caller settles."""
        if self.on_error is not None:
            self.on_error.abandon()
        waiting = list(self.in_on_error.values())
        self.in_on_error.clear()
        return waiting

    def give_up(self) -> None:
        """ANY THREAD. No greenlet can run any more."""
        if self.on_error is not None:
            self.on_error.forget()
        self.in_on_error.clear()

    def disarm(self) -> None:
        """In a forked child: what comes out of a handler ends the process."""
        vars(self).update(fail=self._settling.came_back)
