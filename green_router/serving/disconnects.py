"""Settles what clients have asked whose connections have ended.

Rules of this file
  1. Who it was is asked of ``Connections`` (sockets/connections.py): where that is not certain,
     nothing is done.
  2. One pass over all open requests serves all connections that have ended until then. A pass costs
     what it costs; the next one begins no sooner than ten times as long after it, or 0.5 s. In
     between the owner asks for each reply.
  3. Replies that follow the routing id (a setting) follow those that clients have chosen; those
     that the ROUTER has given never come back.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from ..messages.in_flight import InFlight
from ..messages.ledger import DISCONNECTED_BUSY, Ledger
from ..messages.request import Request
from ..settings import Settings
from ..sockets.connections import Connection, Connections, descriptor_of
from .departures import Departures
from .handlers import Workplace
from .mailbox import Mail, Mailbox
from .origin import is_open
from .parking import Parking

PAUSE_RATIO = 10
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.5
"""Pause after a pass, in lengths of it: a tenth of the time at the most, where connections end all
the time; and seconds between which it is (libuv has no shorter ones)."""

AUTOMATIC = 0
"""The first byte of a routing id that the ROUTER has given."""


def take_out(requests: Iterable[Request], queue: deque[Request]) -> None:
    """Take these out of a queue."""
    ids = set(map(id, requests))
    kept = [request for request in queue if id(request) not in ids]
    queue.clear()
    queue.extend(kept)


class Disconnects:
    """The open requests of one ROUTER's clients, whose connections may end. Made in the serving
    thread.

    Args:
        connections: of the ROUTER.
        settings: of the server.
        handlers: where requests wait, and who is told of those that run (``peer_gone``).
        waiting: the queues of requests that no handler has seen.
        in_flight, mailbox, ledger, parking, departures: the neighbours.
        in_on_error: requests whose on_error is asked.
        ring: makes the owner take a turn.
    Attributes:
        pending: whether the owner shall have a pass made in this turn.
        departed: those of clients that are gone (departures.py).
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        handlers: Workplace,
        waiting: list[deque[Request]],
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        parking: Parking,
        departures: Departures,
        in_on_error: dict[int, Request],
        ring: Callable[[], None],
    ) -> None:
        self._connections, self._handlers, self._waiting = connections, handlers, waiting
        self._in_flight, self._mailbox, self._ledger = in_flight, mailbox, ledger
        self._parking, self._departures, self._in_on_error = parking, departures, in_on_error
        self._follows, self._ring = settings.replies_follow_routing_id, ring
        self.pending = False
        self.departed = departures.departed
        self._next_pass = 0.0
        self._loop: Any = get_hub().loop
        self._timer: Any = self._loop.timer(0)

    def note(self) -> None:
        """OWNER or HUB. Connections have ended: wake the owner for a pass."""
        if not self.pending:
            self.pending = True
            self._ring()

    def gone(self, request: Any) -> bool:
        """OWNER. Tell whether what answers this must not leave."""
        if id(request) in self.departed:
            return True
        return (
            bool(self._connections.ended)
            and not self._stays(request)
            and not is_open(self._connections, request)
        )

    def has_gone(self, request: Any) -> bool:
        """OWNER. Tell whether nobody waits for this, although it was not marked: the next pass has
        yet to come."""
        return not self._stays(request) and not is_open(self._connections, request)

    def drop(self, requests: Collection[Request]) -> None:
        """OWNER. Settle these, which no handler has seen: nobody waits for them."""
        for request in requests:
            self._departures.drop(request)
        self._ledger.counts[DISCONNECTED_BUSY] += len({each.frames[0] for each in requests})

    def _stays(self, request: Any) -> bool:
        """Tell whether its client may come back for the reply."""
        routing_id = request.frames[0]
        return (
            self._follows and routing_id[0] != AUTOMATIC
        ) or routing_id in self._connections.lasting

    def settle(self, mail: Mail, now: float, at_once: bool = False) -> list[Connection]:
        """OWNER. Settle what clients have asked whose connections have ended, unless a pass was
        made just now; return these connections.

        Args:
            mail: what the owner has in hand.
            at_once: whether a pass is made in any case.
        """
        if now < self._next_pass and not at_once and not self._parking.peers:
            if not self._timer.active:
                self.pending = False
                self._timer = self._loop.timer(max(self._next_pass - now, SHORTEST_PAUSE))
                self._timer.start(self._time_is_up)
            return []
        ended, self._connections.ended = self._connections.ended, []
        self.pending = False
        began = monotonic()
        self._settle_all({connection.descriptor for connection in ended}, mail)
        after = monotonic()
        self._next_pass = after + min(PAUSE_RATIO * (after - began), LONGEST_PAUSE)
        return ended

    def _time_is_up(self) -> None:
        """HUB."""
        self._timer.close()
        self.pending = bool(self._connections.ended)
        self._ring()

    def _settle_all(self, descriptors: set[int], mail: Mail) -> None:
        """OWNER. One pass."""
        departures, connected = self._departures, self._connections.connected
        busy = set()

        def is_gone(request: Any) -> bool:
            origin = getattr(request, "origin", None)
            return (
                origin is not None
                and descriptor_of(origin) in descriptors
                and not self._stays(request)
                and not connected(origin, request.received_at)
            )

        for queue in self._waiting:
            gone = list(filter(is_gone, queue))
            if gone:
                take_out(gone, queue)
                for request in gone:
                    busy.add(request.frames[0])
                    departures.drop(request)
        for request in self._in_flight.all():
            if is_gone(request):
                busy.add(request.frames[0])
                self._handlers.peer_gone(request)
        for request in self._claimed(mail):
            if is_gone(request):
                busy.add(request.frames[0])
                departures.mark(request)
        for peer in list(self._parking.peers):
            if self._parking.discard(peer, lambda item: is_gone(item[0])):
                busy.add(peer)
        self._ledger.counts[DISCONNECTED_BUSY] += len(busy)

    def _claimed(self, mail: Mail) -> Iterable[Request]:
        """OWNER. Requests that somebody has settled, and whose replies have not been sent."""
        yield from list(self._in_on_error.values())
        for each in [mail, *self._mailbox.all()]:
            if each.__class__ is tuple and each[1] is not None and isinstance(each[0], Request):
                yield each[0]

    def close(self) -> None:
        """HUB or OWNER. Make no pass any more."""
        self._timer.close()
