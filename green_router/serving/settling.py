"""Gives requests their fate: each is claimed, and its last mail put.

Rules of this file
  1. Whoever settles a request claims it first (messages/in_flight.py). Who loses the claim sends
     nothing.
  2. A fate is counted by the owner: settling means putting mail, with a body or without.
  3. Nothing is settled in a forked child; what comes out of a handler there ends the process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from gevent.hub import get_hub

from ..errors import WrongProcess
from ..hub import forked
from ..hub.log import Log
from ..messages.body import body_of
from ..messages.in_flight import InFlight
from ..messages.ledger import LATE, Ledger
from ..messages.request import Request
from .hints import ENVELOPE_IN_BODY
from .mailbox import Mailbox

log = Log("handlers")


class Settling:
    """Settles requests. Made in the serving thread.

    Args:
        name: of the handler, for messages.
        in_flight, mailbox, ledger: the neighbours.
        run: ``run(task)``, of the workplace.
    """

    def __init__(
        self,
        name: str,
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        run: Callable[[Callable[[], None]], None],
    ) -> None:
        self._name, self._in_flight, self._mailbox, self._ledger, self._run = (
            name,
            in_flight,
            mailbox,
            ledger,
            run,
        )
        self._pid = os.getpid()
        self._warned_of_envelope = False
        forked.arm(self)

    def settle(self, request: Request, body: bytes | list[bytes] | None, fate: int) -> bool:
        """HANDLER or OWNER. Claim the request and let its reply leave; False, and counted as late,
        if somebody else has settled it."""
        if self._in_flight.claim(request):
            self.put_last(request, body, fate)
            return True
        self._ledger.counts[LATE] += 1
        return False

    def put_last(self, request: Request, body: bytes | list[bytes] | None, fate: int) -> None:
        """Serving thread. Put the mail that settles a request which was claimed: behind the stream
        items that other threads have sent."""
        if self._mailbox.threadsafe:
            self._mailbox.drain_threadsafe()
        self._mailbox.put((request, body, fate))

    def body(self, request: Request, value: Any) -> bytes | list[bytes]:
        """ANY THREAD. Return the body of a reply, with a word about one that brings an envelope of
        its own. Raises BadReply."""
        body = body_of(value, self._name)
        if not self._warned_of_envelope and body.__class__ is list and body[0] == request.frames[0]:
            self._warned_of_envelope = True
            self._mailbox.put_threadsafe(
                partial(self._run, partial(log.warning, ENVELOPE_IN_BODY, self._name))
            )
        return body

    def disarm(self) -> None:
        """In a forked child: nothing can be settled there."""
        self._in_flight.open.clear()  # so not even bytes go the short way (handlers.py)
        vars(self).update(put_last=self.came_back)

    def came_back(self, request: Request, outcome: Any, *_: int) -> None:
        """HANDLER, in a forked child. End the process by what comes out of the handler there: where
        a loop had called the handler, an exception would come out of the loop, too."""
        error = (
            outcome
            if isinstance(outcome, BaseException)
            else WrongProcess("what a handler returned", self._pid, os.getpid())
        )
        get_hub().handle_system_error(type(error), error)
