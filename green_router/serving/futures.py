"""The futures that handlers return: no greenlet waits for them, and nobody needs them once their
request is settled.

Rules of this file
  1. A future is anything with ``add_done_callback`` (concurrent.futures) or ``rawlink`` (gevent).
     It may be done in any OS thread; what it has is judged in the serving thread, by results.py and
     failures.py.
  2. Whoever settles the request (a deadline, a client that has gone, the end of the server) cancels
     it by ``throw``: what waits in an executor does not begin. Work that has begun goes on, as
     everywhere; its result is too late.
  3. Nothing here keeps a future, or its request: one that nobody will complete is noticed, when it
     is collected.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import CancelledError
from contextlib import suppress
from functools import partial
from typing import Any, Protocol
from weakref import ref

from ..messages.in_flight import InFlight
from ..messages.ledger import NO_REPLY
from ..messages.request import Request
from .departures import Departures
from .failures import Failures
from .mailbox import Mailbox
from .reply_envelope import ReplyEnvelope


class Judge(Protocol):
    """The judge of a request's fate: results.py. Attributes: run, calls a task in a handler
    greenlet; stopped, whether nothing can leave any more; departures."""

    run: Callable[[Callable[[], None]], None]
    stopped: bool
    departures: Departures

    def finish(self, request: Request, result: Any) -> None:
        """HANDLER, OWNER. Do what a result asks for."""

    @property
    def settle(self) -> Callable[[Request, bytes | list[bytes] | None, int], bool]:
        """HANDLER, OWNER. Claim the request and let its reply leave; False if somebody else has
        settled it."""


class Promised:
    """The holder of a request that a future will answer."""

    __slots__ = ("_future", "_request", "_run")

    running, put_off = False, True

    def __init__(
        self, request: Request, future: Any, run: Callable[[Callable[[], None]], None]
    ) -> None:
        self._request, self._future, self._run = ref(request), ref(future), run

    @property
    def request(self) -> Request | None:
        """The request that it will answer, as long as that exists."""
        return self._request()

    def throw(self, error: BaseException) -> None:
        """HUB. Cancel it: in a greenlet, because whoever hears of that may wait."""
        self._run(self._cancel)

    def _cancel(self) -> None:
        with suppress(Exception):
            self._future().cancel()  # type: ignore[union-attr]


class Futures:
    """The futures of one server. Made in the serving thread. Arguments: results and failures, which
    judge what they have; their neighbours."""

    def __init__(
        self, results: Judge, failures: Failures, in_flight: InFlight, mailbox: Mailbox
    ) -> None:
        self._results, self._failures, self._in_flight, self._mailbox = (
            results,
            failures,
            in_flight,
            mailbox,
        )

    def follow(
        self, request: Request, future: Any, dropped: Callable[[ReplyEnvelope], None]
    ) -> None:
        """HANDLER or OWNER. Answer the request when the future is done.

        Args:
            dropped: called with what is left of the request when nobody can answer it any more.
        """
        if hasattr(future, "add_done_callback"):
            future.add_done_callback(partial(self._done, request))
        else:
            future.rawlink(partial(self._done, request))
        if hasattr(future, "cancel"):
            with suppress(TypeError):  # no weak references to it
                self._in_flight.elsewhere[id(request)] = Promised(
                    request, future, self._results.run
                )
        if self._results.departures.put_off(request):
            return
        self._in_flight.defer(
            request, partial(dropped, ReplyEnvelope(request.frames, request.envelope_length))
        )

    def _done(self, request: Request, future: Any) -> None:
        """ANY THREAD."""
        if not self._results.stopped:
            self._mailbox.put_threadsafe(partial(self._resolve, request, future))

    def _resolve(self, request: Request, future: Any) -> None:
        """OWNER. Settle with the future's result: it is done, so nothing here waits."""
        results = self._results
        try:
            if hasattr(future, "add_done_callback"):
                result = future.result()
            else:
                result = future.get(block=False)
            if result is None:
                results.settle(request, None, NO_REPLY)
            else:
                results.finish(request, result)
        except BaseException as error:
            if not isinstance(error, CancelledError) or self._in_flight.owes(request):
                results.run(partial(self._failures.fail, request, error, False))
