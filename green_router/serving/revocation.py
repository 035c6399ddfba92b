"""Disconnects clients whose keys were revoked, and lets no handler see what they have asked.

Rules of this file
  1. It is there only where a directory says whose keys are let in. Then each connection is known by
     the key that its first message came with; that costs 1 us a message, and no wake-up.
  2. A connection is dropped whose key is gone, or says somebody else now: it may come again as
     that.
  3. Who has said nothing yet cannot be told from others of the same address. So where a revoked
     key was let in from an address, those of it that have said nothing are dropped too; they
     connect again at once, and had nothing to lose.
  4. What libzmq had taken from a dropped client still comes. It is looked at until the socket has
     been empty, with all of those connections gone: only then no more can come.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from contextlib import suppress
from itertools import islice
from time import monotonic
from typing import Any

import zmq

from ..hub.log import Log
from ..messages.request import Request
from ..security.control import AccessControl
from ..security.keys import Identity
from ..security.zap import KEY, ROLE
from ..sockets.connections import Connection, Connections
from .departures import Departures

log = Log("security")

LOOK_FOR = 1.0
"""Seconds for which messages are looked at at the least: libzmq closes a connection within
milliseconds."""


class Revocation:
    """Acts on revoked keys. Made in the serving thread.

    Args:
        access: who may connect; tells of revoked keys.
        connections: of the ROUTER.
        waiting: the queues of requests that no handler has seen.
        departures: settles them.
    """

    def __init__(
        self,
        access: AccessControl,
        connections: Connections,
        waiting: list[deque[Request]],
        departures: Departures,
    ) -> None:
        self._access, self._connections, self._waiting, self._departures = (
            access,
            connections,
            waiting,
            departures,
        )
        self._dropped: list[Connection] = []
        self._until = 0.0
        self._active = False
        access.call_when_revoked(self.revoke)

    def have_taken(self, requests: deque[Request], count: int, more: bool) -> None:
        """OWNER. The last of these requests, so many at the most, are new; no handler has seen
        them.

        Args:
            more: whether there are more to take.
        """
        perhaps = self._connections.perhaps
        stale = False
        for request in islice(reversed(requests), count):
            connection = perhaps(request.origin, request.received_at)
            if connection is not None and connection.identity is None and connection.certain:
                connection.identity = _identity_of(request.origin)
            stale |= self._active and self._is_stale(_identity_of(request.origin))
        if stale:
            self._drop_requests()
        if self._active and not more and monotonic() >= self._until:
            live = self._connections.live
            self._active = any(
                live.get(connection.descriptor) is connection for connection in self._dropped
            )
            if not self._active:
                self._dropped.clear()

    def revoke(self, keys: set[bytes]) -> None:
        """In the serving thread: these keys are not let in any more, or are somebody else's. Does
        not block."""
        connections = self._connections
        with suppress(zmq.ZMQError):
            connections.look()
        suspects = self._access.addresses_of(keys)
        self._active, self._until = True, monotonic() + LOOK_FOR
        dropped = 0
        for connection in list(connections.live.values()):
            known = connection.identity
            if (
                self._is_stale(known)
                if known is not None
                else _address_of(connection.descriptor) in suspects
            ):
                self._dropped.append(connection)
                dropped += connections.drop(connection)
        self._drop_requests()
        log.warning("%d keys are revoked: disconnected %d clients", len(keys), dropped)

    def _is_stale(self, known: tuple[bytes, Identity] | None) -> bool:
        return known is not None and self._access.identity_of(known[0]) != known[1]

    def _drop_requests(self) -> None:
        for queue in self._waiting:
            stale = {
                id(request): request
                for request in queue
                if self._is_stale(_identity_of(request.origin))
            }
            if stale:
                left = [request for request in queue if id(request) not in stale]
                queue.clear()
                queue.extend(left)
                for request in stale.values():
                    self._departures.drop(request)


def _identity_of(origin: Any) -> tuple[bytes, Identity] | None:
    """Return the key of a directory that a message came with, and who that was; None for none."""
    try:
        key = origin.get(KEY)
    except (zmq.ZMQError, AttributeError):
        return None
    try:
        role = origin.get(ROLE)
    except zmq.ZMQError:
        role = None
    return key.encode(), Identity(origin.get("User-Id"), role)


def _address_of(descriptor: int) -> str:
    """Return the IP address of a connection's peer, as ZAP has it; ``localhost`` over ipc."""
    try:
        with socket.socket(fileno=os.dup(descriptor)) as duplicate:
            if duplicate.family == socket.AF_UNIX:
                return "localhost"
            return str(duplicate.getpeername()[0]).partition("%")[0]
    except OSError:  # it has ended
        return ""
