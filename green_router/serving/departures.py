"""Settles one request whose client's connection has ended.

Rules of this file
  1. No handler that has not begun sees it. Where it was put off (its handler returned None or a
     future, or says that it is not ready yet), it is settled, its place is free, and its future is
     cancelled.
  2. A handler that runs goes on, and what it returns is not sent; with ``cancel_on_disconnect`` it
     is ended as at a deadline.
  3. Its origin says so from then on: ``Departed``. Whoever asks (``Request.connected``) may be in
     any OS thread.

Not sent is more than a saving: a client that has come back under the same routing id would get the
reply as the answer to what it has asked since.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any
from weakref import ref

from gevent.hub import get_hub

from ..errors import PeerGone
from ..messages.in_flight import Holder, InFlight
from ..messages.ledger import PEER_GONE
from ..messages.request import Request
from ..settings import Settings
from .greenlets import end_handler
from .mailbox import Mailbox


class Departed:
    """In the place of a request's origin: its connection has ended. Attributes: get, of the
    origin."""

    __slots__ = ("get",)

    def __init__(self, origin: Any) -> None:
        self.get: Callable[[Any], Any] = origin.get


def has_departed(request: Any) -> bool:
    """Tell whether the connection of this request is known to have ended. **Thread-safe**."""
    return request.origin.__class__ is Departed


class Departures:
    """Settles requests of clients that are gone. Made in the serving thread.

    Args:
        settings: of the server: ``cancel_on_disconnect``.
        in_flight, mailbox: the neighbours.
    Attributes:
        departed: those that are not settled yet, by their ids. The owner looks here for each reply.
    """

    def __init__(self, settings: Settings, in_flight: InFlight, mailbox: Mailbox) -> None:
        self._cancels, self._in_flight, self._mailbox = (
            settings.cancel_on_disconnect,
            in_flight,
            mailbox,
        )
        self._loop = get_hub().loop
        self.departed: dict[int, ref[Request]] = {}

    def mark(self, request: Request) -> None:
        """OWNER or HUB. Nothing that answers it leaves from now on."""
        if not has_departed(request):
            request.origin = Departed(request.origin)
            table, key = self.departed, id(request)
            table[key] = ref(request, lambda _: table.pop(key, None))

    def drop(self, request: Request) -> None:
        """OWNER or HUB. Settle one that no handler has had."""
        self.mark(request)
        self._mailbox.put((request, None, PEER_GONE))

    def settle(self, request: Request) -> None:
        """OWNER or HUB. Settle one that its handler has put off; end the handler, or let it go
        on."""
        self.mark(request)
        holder = self._in_flight.holder(request)
        if holder is not None and not holder.put_off and not self._cancels:
            return
        self._end(request, holder)

    def put_off(self, request: Request) -> bool:
        """HANDLER. A handler has put this off; True if nobody waits for it any more: then it has
        been settled."""
        if not has_departed(request):
            return False
        self._end(request, self._in_flight.elsewhere.get(id(request)))
        return True

    def _end(self, request: Request, holder: Holder | None) -> None:
        if self._in_flight.claim(request):
            self._mailbox.put((request, None, PEER_GONE))
            if holder is not None:
                # Behind the mail, as at a deadline: nobody knows for how long it goes on when it is
                # thrown at.
                self._mailbox.put(
                    partial(self._loop.run_callback, end_handler, holder, request, PeerGone())
                )
