"""Requests that were read while there was no place for them (``overload="pause"``).

Rules of this file
  1. They are read so that it is known whose they are. What a client has said before it went can be
     told from what another says later only if it was read in between (sockets/connections.py). So
     as many are kept here as there are connections: one of each, where each asks once at a time.
  2. Here a request has no place: it counts as waiting, and ``max_in_flight`` does not count it.
     What is limited for each peer, the admission counts from when it is read.
  3. Whoever settles requests may take them out (the end of connections, revoked keys, a stop); only
     the owner puts them in, and gives them a place, in the order in which they came.
  4. Their time (``handler_timeout``) begins with their place, as if they had been read then.
  5. Over inproc no connections are known, and nothing is read ahead.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from ..messages.admission import Admission
from ..messages.request import Request
from ..messages.size import MESSAGE_BYTES, bytes_of
from ..settings import Settings
from ..sockets.connections import Connections

MOST_BYTES = 4 * 1024 * 1024
"""What those that wait here may take, and ``max_in_flight_bytes`` where that is less; the last of
them may go beyond it. It is some 8,000 small requests."""


def _size(request: Request) -> int:
    return MESSAGE_BYTES + bytes_of(request.frames)


class ReadAhead:
    """The requests that wait for a place.

    Args:
        settings: of the server.
        connections: of the ROUTER.
    Attributes:
        requests: the oldest first.
    """

    __slots__ = ("_bytes", "_connections", "_count", "_most_bytes", "requests")

    def __init__(self, settings: Settings, connections: Connections) -> None:
        self.requests: deque[Request] = deque()
        self._connections = connections
        self._most_bytes = min(MOST_BYTES, settings.max_in_flight_bytes or MOST_BYTES)
        self._bytes = self._count = 0

    @property
    def bytes(self) -> int:
        """The bytes that they take."""
        if len(self.requests) != self._count:  # others have taken some out
            self._count, self._bytes = len(self.requests), sum(map(_size, self.requests))
        return self._bytes

    @property
    def has_room(self) -> bool:
        """True if one more may be read."""
        connections = self._connections
        most = len(connections.live) + len(connections.ended)
        return len(self.requests) < most and self.bytes < self._most_bytes

    def appended(self) -> None:
        """OWNER. Count the one that was added, if one was, since ``has_room`` was asked."""
        if len(self.requests) == self._count + 1:
            self._count += 1
            self._bytes += _size(self.requests[-1])

    def place(
        self,
        room: int,
        inbox: deque[Request],
        admission: Admission | None,
        has_gone: Callable[[Request], bool],
        now: float,
    ) -> list[Request]:
        """OWNER. Give so many a place in this inbox, the oldest first.

        Args:
            admission: counts bytes, those that wait here among them.
            has_gone: tells whether nobody waits for a request.
            now: from which on their time counts; before the last look at connections, as the time
                at which a message was read always is.
        Returns:
            Those for which nobody waits. The caller settles them.
        """
        gone: list[Request] = []
        while room > 0 and self.requests:
            size, request = self.bytes, self.requests.popleft()
            self._bytes, self._count = size - _size(request), self._count - 1
            if has_gone(request):
                gone.append(request)
                continue
            request.received_at = now
            inbox.append(request)
            room -= 1
            if admission is not None and admission.reached_without(self._count, self._bytes):
                break
        return gone

    def abandon(self) -> list[Request]:
        """Take all requests out. The caller settles them."""
        waiting = list(self.requests)
        self.requests.clear()
        return waiting
