"""Acts on the end of connections: settles what ended clients have asked, and tells who wants to
know.

Rules of this file
  1. It knows within a turn of the loop, and wakes nobody while nothing happens: the watcher on
     libzmq's events is the first that the loop calls, the owner looks before it sends where the
     loop has been blocked, and behind each take.
  2. Who it was is asked of ``Connections`` (sockets/connections.py): where that is not certain,
     nothing is done.
  3. One pass over all open requests serves all connections that have ended until then. A pass costs
     what it costs; the next one begins no sooner than ten times as long after it, or 0.5 s. In
     between the owner asks for each reply.
  4. Replies that follow the routing id (a setting) follow those that clients have chosen; those
     that the ROUTER has given never come back.

What a connection is called is seen by its first message, and asked only while there are connections
that have not spoken: for ``on_disconnect``, and because another connection may have taken over the
id while the older one is open.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterable
from itertools import chain, islice
from time import monotonic
from typing import Any

import zmq
from gevent.hub import get_hub

from ..hub import forked
from ..hub.log import Log
from ..messages.in_flight import InFlight
from ..messages.ledger import DISCONNECTED_BUSY, Ledger
from ..messages.request import Request
from ..security.control import AccessControl
from ..settings import Settings
from ..sockets.connections import Connection, Connections, descriptor_of
from .connection_age import ConnectionAge
from .departures import Departures
from .mailbox import Mail, Mailbox
from .origin import is_open
from .parking import Parking
from .revocation import Revocation

log = Log("peers")

LOOK_EVERY = 0.005
"""Seconds after which the owner looks before it sends: a blocked loop may have seen nothing for so
long. At each turn it would take a tenth of what an echo does."""

PAUSE_RATIO = 10
SHORTEST_PAUSE, LONGEST_PAUSE = 0.001, 0.5
"""Pause after a pass, in lengths of it: a tenth of the time at the most, where connections end all
the time; and seconds between which it is (libuv has no shorter ones)."""

HANDOVER_SECONDS = 10.0
"""For how long a new connection that says nothing is watched for an id that it takes over. Messages
cost more meanwhile."""

AUTOMATIC = 0
"""The first byte of a routing id that the ROUTER has given."""


def _take_out(requests: list[Request], queue: deque[Request]) -> None:
    ids = set(map(id, requests))
    kept = [request for request in queue if id(request) not in ids]
    queue.clear()
    queue.extend(kept)


class Peers:
    """The clients of one ROUTER. Made in the serving thread.

    Args:
        connections: of the ROUTER.
        settings: of the server.
        handlers: where requests wait, and who is told of those that run (``peer_gone``).
        ahead: requests that wait for a place.
        in_flight, mailbox, ledger, parking, departures: the neighbours.
        explaining: requests whose on_error is asked.
        ring: makes the owner take a turn.
        access: who may connect, where that is asked.
        on_disconnect: called with the routing id of a client that is gone; None for nobody.
    Attributes:
        connections: likewise.
        pending: whether the owner shall call ``settle`` in this turn.
        departed: those of clients that are gone (departures.py).
        waiting: the queues of requests that no handler has seen.
    """

    def __init__(
        self,
        connections: Connections,
        settings: Settings,
        handlers: Any,
        ahead: deque[Request],
        in_flight: InFlight,
        mailbox: Mailbox,
        ledger: Ledger,
        parking: Parking,
        departures: Departures,
        explaining: dict[int, Request],
        ring: Callable[[], None],
        access: AccessControl | None,
        on_disconnect: Callable[[bytes], None] | None,
    ) -> None:
        self.connections, self._handlers, self._in_flight, self._mailbox = (
            connections,
            handlers,
            in_flight,
            mailbox,
        )
        self._ledger, self._parking, self._departures, self._explaining = (
            ledger,
            parking,
            departures,
            explaining,
        )
        self._ring = ring
        self._follows = settings.replies_follow_routing_id
        self._handover = settings.duplicate_routing_id == "handover" and not self._follows
        self.waiting = [handlers.inbox, ahead]
        self.pending = False
        self._on_disconnect = on_disconnect
        self._access = access
        if access is not None:
            self._revocation = Revocation(access, connections, self.waiting, departures)
        self._by_id: dict[bytes, Connection] = {}
        self.departed = departures.departed
        self._next_pass = 0.0
        self._met = 0
        self._loop: Any = get_hub().loop
        self._timer: Any = self._loop.timer(0)
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
        if connections.ended and not self.pending:
            self.pending = True
            self._ring()

    def _busy(self) -> set[int | None]:
        """Return the descriptors of connections that have an unanswered request."""
        return {
            descriptor_of(request.origin) for request in chain(self._in_flight.all(), *self.waiting)
        }

    def look_again(self, mail: Mail, now: float) -> None:
        """OWNER. Something is pending, or the loop may have been blocked."""
        if now - self.connections.looked_at > LOOK_EVERY:
            self.look()
        if self.pending:
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
        gone = list(filter(self.has_gone, islice(reversed(requests), count)))
        if gone:
            _take_out(gone, requests)
            self.drop(gone[::-1])

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
            elif (
                self._on_disconnect is not None
            ):  # told with it, unless it is known to be another's
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

    # -- acting ------------------------------------------------------------------------------------

    def gone(self, request: Any) -> bool:
        """OWNER. Tell whether what answers this must not leave."""
        if id(request) in self.departed:
            return True
        return (
            bool(self.connections.ended)
            and not self._stays(request)
            and not is_open(self.connections, request)
        )

    def has_gone(self, request: Any) -> bool:
        """OWNER. Tell whether nobody waits for this, although it was not marked: the next pass has
        yet to come."""
        return not self._stays(request) and not is_open(self.connections, request)

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
        ) or routing_id in self.connections.lasting

    def settle(self, mail: Mail, now: float, at_once: bool = False) -> None:
        """OWNER. Settle what clients have asked whose connections have ended, unless a pass was
        made just now.

        Args:
            mail: what the owner has in hand.
        """
        if now < self._next_pass and not at_once and not self._parking.peers:
            if not self._timer.active:
                self.pending = False
                self._timer = self._loop.timer(max(self._next_pass - now, SHORTEST_PAUSE))
                self._timer.start(self._time_is_up)
            return
        ended, self.connections.ended = self.connections.ended, []
        self.pending = False
        began = monotonic()
        self._settle_all({connection.descriptor for connection in ended}, mail)
        for connection in ended:
            self._tell(connection)
        after = monotonic()
        self._next_pass = after + min(PAUSE_RATIO * (after - began), LONGEST_PAUSE)

    def _time_is_up(self) -> None:
        """HUB."""
        self._timer.close()
        self.pending = bool(self.connections.ended)
        self._ring()

    def _settle_all(self, descriptors: set[int], mail: Mail) -> None:
        """OWNER. One pass."""
        departures, connected = self._departures, self.connections.connected
        busy = set()

        def is_gone(request: Any) -> bool:
            origin = getattr(request, "origin", None)
            return (
                origin is not None
                and descriptor_of(origin) in descriptors
                and not self._stays(request)
                and not connected(origin, request.received_at)
            )

        for queue in self.waiting:
            gone = list(filter(is_gone, queue))
            if gone:
                _take_out(gone, queue)
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
        yield from list(self._explaining.values())
        for each in [mail, *self._mailbox.all()]:
            if each.__class__ is tuple and each[1] is not None and isinstance(each[0], Request):
                yield each[0]

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
        self._timer.close()
        self._next_look.close()
        if self._age is not None:
            self._age.close()
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None

    disarm = close
