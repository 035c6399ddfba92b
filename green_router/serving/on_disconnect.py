"""Calls of the application's on_disconnect, each within the limit that a handler has.

Rules of this file
  1. It is called once for each client whose connection has ended and that had asked something, in a
     greenlet where it may block; before what that client asks on its next connection.
  2. It has ``handler_timeout``, and is ended then. What it raises is logged, and counted as a
     callback error.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Protocol

from ..hub.log import Log
from ..hub.log_throttle import LogThrottle
from ..messages.ledger import CALLBACK_ERRORS
from ..settings import Settings
from .mailbox import Mailbox
from .on_error import Call, OnError
from .reply_envelope import NO_ENVELOPE

log = Log("handlers")


class Leaving(Protocol):
    """A listener that is told of clients that are gone: called with a routing id, by the owner."""

    def __call__(self, routing_id: bytes) -> None:
        """OWNER. The client of that name is gone."""

    def close(self) -> None:
        """HUB or OWNER. The end."""


class Calls(OnError):
    """Calls that are bounded as those of on_error are, and that somebody else reports."""

    def _end_call(
        self, call: Call, body: bytes | list[bytes] | None, failure: BaseException | None
    ) -> None:
        call.answered(body, failure)


class OnDisconnect:
    """Calls on_disconnect. Made in the serving thread.

    Args:
        function: ``on_disconnect(routing_id)``, the application's.
        seconds: the limit; None for none.
        mailbox: of the server.
        run: ``run(task)``, call this in a handler greenlet.
        crash: called with a SystemExit or KeyboardInterrupt that comes out of it.
    """

    def __init__(
        self,
        function: Callable[[bytes], object],
        seconds: float | None,
        mailbox: Mailbox,
        run: Callable[[Callable[[], None]], None],
        crash: Callable[[BaseException], None],
    ) -> None:
        def call(routing_id: Any, _: object) -> None:
            function(routing_id)  # what it returns is nobody's reply

        self._calls = Calls(call, seconds, mailbox, run, crash)
        self._mailbox, self._crash = mailbox, crash
        self._failures = LogThrottle()

    @classmethod
    def of(
        cls,
        settings: Settings,
        mailbox: Mailbox,
        run: Callable[[Callable[[], None]], None],
        crash: Callable[[BaseException], None],
    ) -> OnDisconnect | None:
        """Return that of these settings, or None if there is none."""
        function = settings.on_disconnect
        return (
            None
            if function is None
            else cls(function, settings.handler_timeout, mailbox, run, crash)
        )

    def __call__(self, routing_id: bytes) -> None:
        """OWNER or HUB. The client of that name is gone."""
        nothing: Any = None
        self._calls.ask(routing_id, nothing, partial(self._told, routing_id))  # type: ignore[arg-type]

    def _told(self, routing_id: bytes, body: object, failure: BaseException | None) -> None:
        """HANDLER or HUB. A call has returned, or raised, or was given up."""
        if failure is None:
            return
        self._mailbox.put((NO_ENVELOPE, None, CALLBACK_ERRORS))
        if isinstance(failure, (SystemExit, KeyboardInterrupt)):
            self._crash(failure)
        if self._failures.worth_saying():
            log.error(
                "on_disconnect failed for %s: %s: %s%s",
                routing_id.hex(),
                type(failure).__name__,
                failure,
                self._failures.others(),
                error=failure,
            )

    def close(self) -> None:
        """HUB or OWNER. End the calls that are made."""
        self._calls.abandon()
