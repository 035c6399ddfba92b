"""Looks at the connections of a ROUTER: who has come, what it is called, and who has gone.

Rules of this file
  1. It knows within a turn of the loop, and wakes nobody while nothing happens: the watcher on
     libzmq's events is the first that the loop calls, the owner looks before it sends where the
     loop has been blocked, and behind each take.
  2. What ended clients have asked is settled elsewhere (disconnects.py); who wants to know of them
     is told behind it, once.

What a connection is called is seen by its first message, and asked only while there are connections
that have not spoken: for ``on_disconnect``, and because another connection may have taken over the
id while the older one is open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from itertools import chain, islice
from time import monotonic
from typing import Any

import zmq
from gevent.hub import get_hub

from ..hub import forked
from ..hub.log import Log
from ..messages.in_flight import InFlight
from ..messages.ledger import Ledger
from ..messages.request import Request
from ..security.control import AccessControl
from ..settings import Settings
from ..sockets.connections import Connection, Connections, descriptor_of
from .connection_age import ConnectionAge
from .departures import Departures
from .disconnects import AUTOMATIC, SHORTEST_PAUSE, Disconnects, take_out
from .handlers import Workplace
from .mailbox import Mail, Mailbox
from .parking import Parking
from .revocation import Revocation

log = Log("peers")

LOOK_EVERY = 0.005
"""Seconds after which the owner looks before it sends: a blocked loop may have seen nothing for so
long. At each turn it would take a tenth of what an echo does."""

HANDOVER_SECONDS = 10.0
"""For how long a new connection that says nothing is watched for an id that it takes over. Messages
cost more meanwhile."""


class Peers:
    """The clients of one ROUTER. Made in the serving thread.

    Args:
        connections: of the ROUTER.
        settings: of the server.
        handlers: where requests wait, and who is told of those that run (``peer_gone``).
        ahead: requests that wait for a place.
        in_flight, mailbox, ledger, parking, departures: the neighbours.
        in_on_error: requests whose on_error is asked.
        ring: makes the owner take a turn.
        access: who may connect, where that is asked.
        on_disconnect: called with the routing id of a client that is gone; None for nobody.
    Attributes:
        connections: likewise.
        disconnects: settles what ended clients have asked.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        handlers: Workplace,
        ahead: deque[Request],
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        parking: Parking,
        departures: Departures,
        in_on_error: dict[int, Request],
        ring: Callable[[], None],
        access: AccessControl | None,
        on_disconnect: Callable[[bytes], None] | None,
    ) -> None:
        self.connections, self._in_flight, self._ledger = connections, in_flight, ledger
        self._waiting = waiting = [handlers.inbox, ahead]
        self.disconnects = Disconnects(
            connections,
            settings,
            handlers,
            waiting,
            in_flight,
            mailbox,
            ledger,
            parking,
            departures,
            in_on_error,
            ring,
        )
        self._handover = (
            settings.duplicate_routing_id == "handover" and not settings.replies_follow_routing_id
        )
        self._on_disconnect = on_disconnect
        self._access = access
        if access is not None:
            self._revocation = Revocation(access, connections, self._waiting, departures)
        self._by_id: dict[bytes, Connection] = {}
        self._met = 0
        self._loop: Any = get_hub().loop
        self._next_look: Any = self._loop.timer(0)
        self._watcher: Any = None
        if connections.fd >= 0:
            self._watcher = self._loop.io(connections.fd, 1)
            if hasattr(self._loop, "MAXPRI"):  # libuv calls watchers in no order
                self._watcher.priority = self._loop.MAXPRI
            self._watcher.start(self.look)
        self._age: ConnectionAge | None = None
        if settings.max_connection_age is not None:
            self._age = ConnectionAge(
                settings.max_connection_age, connections, self.look, self._busy
            )
        forked.arm(self)

    # -- looking -----------------------------------------------------------------------------------

    def look(self) -> None:
        """OWNER or HUB. See what has happened to connections."""
        connections = self.connections
        try:
            if not connections.look():
                return
        except zmq.ZMQError:  # the context is gone: the owner will notice
            self.close()
            return
        if connections.unfinished and not self._next_look.active:
            self._next_look.close()
            self._next_look = self._loop.timer(SHORTEST_PAUSE)
            self._next_look.start(self.look)
        if connections.fresh and not self._handover and self._on_disconnect is None:
            connections.fresh.clear()
        if connections.ended:
            self.disconnects.note()

    def _busy(self) -> set[int | None]:
        """Return the descriptors of connections that have an unanswered request."""
        return {
            descriptor_of(request.origin)
            for request in chain(self._in_flight.all(), *self._waiting)
        }

    def look_again(self, mail: Mail, now: float) -> None:
        """OWNER. Something is pending, or the loop may have been blocked."""
        if now - self.connections.looked_at > LOOK_EVERY:
            self.look()
        if self.disconnects.pending:
            self.settle(mail, now)

    def have_taken(
        self, requests: deque[Request], more: bool, readable: Callable[[], object]
    ) -> bool:
        """OWNER. Messages were taken; no handler has seen them yet.

        Args:
            requests: to which those that are requests were added.
            more: whether there are more.
            readable: where there were none, whether there are now.
        Returns:
            Whether there are more.
        """
        connections, count = self.connections, self._ledger.received - self._met
        trailing = connections.trailing
        # Before the look: it is about those that were known before.
        if not more and connections.uncertain:
            more = connections.seen_empty(readable)
        self.look()
        if self._access is not None and self._access.has_directory:
            self._revocation.have_taken(requests, count, more)
        if connections.fresh:
            self._meet(requests, count)
        if trailing or connections.ended:
            self._drop_late(requests, count)
        self._met = self._ledger.received
        return more

    def _drop_late(self, requests: deque[Request], count: int) -> None:
        """OWNER. The last of these, so many at the most, may have been read when their connections
        had ended."""
        if self.connections.ended:
            self.settle(None, monotonic())
        gone = list(filter(self.disconnects.has_gone, islice(reversed(requests), count)))
        if gone:
            take_out(gone, requests)
            self.disconnects.drop(gone[::-1])

    def _meet(self, requests: deque[Request], count: int) -> None:
        """OWNER. The last of these, so many at the most, may be the first messages of
        connections."""
        now, fresh = monotonic(), self.connections.fresh
        for request in reversed(list(islice(reversed(requests), count))):
            connection = self.connections.perhaps(request.origin, request.received_at)
            if connection is None or connection.descriptor not in fresh:
                continue
            if connection.certain:
                del fresh[connection.descriptor]
                self._name(connection, request.frames[0])
            elif self._on_disconnect is not None:
                # Told with it, unless it is known to be another's.
                self._by_id.setdefault(request.frames[0], connection)
                connection.routing_ids = (*connection.routing_ids[-8:], request.frames[0])
        if self._on_disconnect is None:
            for connection in list(fresh.values()):
                if now - connection.seen_at < HANDOVER_SECONDS:
                    break
                del fresh[connection.descriptor]

    def _name(self, connection: Connection, routing_id: bytes) -> None:
        """OWNER. A connection says for the first time what its client is called."""
        if routing_id[0] == AUTOMATIC and self._on_disconnect is None:
            return
        before = self._by_id.get(routing_id)
        connection.routing_ids = (*connection.routing_ids, routing_id)
        self._by_id[routing_id] = connection
        if before is not None and before is not connection and self._handover:
            before.replaced = True
            if self._on_disconnect is not None and routing_id in before.routing_ids:
                self._on_disconnect(routing_id)
            self.connections.ended.append(before)
            self.settle(None, monotonic(), at_once=True)

    def settle(self, mail: Mail, now: float, at_once: bool = False) -> None:
        """OWNER. Have settled what ended clients have asked (disconnects.py), and tell of them."""
        for connection in self.disconnects.settle(mail, now, at_once):
            self._tell(connection)

    def _tell(self, connection: Connection) -> None:
        """OWNER. Tell of each end, once, who wants to know."""
        routing_ids, connection.routing_ids = connection.routing_ids, ()
        for routing_id in routing_ids:
            # Otherwise another one has it now, and they were told then.
            if self._by_id.get(routing_id) is connection:
                del self._by_id[routing_id]
                if self._on_disconnect is not None:
                    self._on_disconnect(routing_id)

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """HUB or OWNER. Look no more: before the descriptor is closed."""
        self.disconnects.close()
        self._next_look.close()
        if self._age is not None:
            self._age.close()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    disarm = close
