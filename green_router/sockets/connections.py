"""Which connection a message came by, which connections have ended, and how one is dropped.

Rules of this file
  1. What is told is certain, or it is not told: where two connections may be meant, ``of`` returns
     None, and ``connected`` takes the request for one of the living one.
  2. Nothing here costs anything for each message. It is asked, or it reads what libzmq says of
     connections.
  3. What libzmq says (``look``) is read in the serving thread, whatever else happens there, and
     whole: where it never ends, in parts.
  4. Memory: one object for each connection that is open, and a number for each descriptor that was
     used twice.

How a connection is known
  A message tells its descriptor (ZMQ_SRCFD), but descriptors are used again, also while messages of
  an ended connection wait to be read. SO_COOKIE tells two sockets apart, but not which of them a
  message came by: when it is read, its own may be gone. The order of events tells. libzmq's monitor
  says DISCONNECTED before it closes a descriptor, and ACCEPTED before the next connection that gets
  it can say anything. So what was read before the last look in which the newer connection was not
  known is the older one's.

Why not otherwise
  epoll on a duplicate of each descriptor tells an end as well, but keeps TCP from closing when
  libzmq closes, and takes a descriptor each. The routing id says nothing of connections: the same
  one comes back on another. ROUTER_NOTIFY would put the end behind all that waits to be read, and
  is in no release of libzmq.

Why nothing is lost, and nothing blocks
  A monitor that nobody reads stops the I/O thread at the high-water mark. So there is none: while
  the loop is blocked, events wait in libzmq, each smaller than what it keeps for the connection
  itself. With several I/O threads ACCEPTED may come behind DISCONNECTED: then they cancel each
  other out.

Over inproc there are no descriptors and no events: nothing is known, and everybody counts as
connected.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Callable, Iterable
from contextlib import suppress
from fcntl import F_GETFD, fcntl
from functools import reduce
from itertools import count
from math import inf
from operator import or_
from time import monotonic
from typing import Any

import zmq

from .frames import frames_of

SRCFD = 2
"""ZMQ_SRCFD of zmq_msg_get(3), as a plain number: an Enum's member takes as long to convert as the
call itself."""

EVENT = struct.Struct("=Hi")
ACCEPTED, CONNECTED, DISCONNECTED = map(
    int, (zmq.EVENT_ACCEPTED, zmq.EVENT_CONNECTED, zmq.EVENT_DISCONNECTED)
)
NOBLOCK = int(zmq.NOBLOCK)

MOST_EVENTS = 1000
"""Events that are read in one look: at the limit of descriptors libzmq says without a pause that it
could not accept a connection, faster than that can be read."""

TRAILING_SECONDS = 1.0
"""For how long after the end of a connection its last messages may still come, at the most. libzmq
says that it has ended before it hands them on, some microseconds before it closes the
descriptor."""

names = count()


class Connection:
    """One connection to the ROUTER.

    Attributes:
        descriptor: of libzmq's socket, as long as it is open.
        seen_at: when ``look`` has found it, in seconds of ``time.monotonic``.
        since: what was received before that time, in seconds of ``time.monotonic``, did not come by
            it.
        certain: whether no message of an earlier connection of this descriptor can still come.
        replaced: whether another connection has taken over its routing id.
        routing_ids: those that it was seen to have, by whoever reads its messages: one, where it is
            certain.
        identity: the key of its client and who that is, for whoever wants to know
            (serving/revocation.py).
    """

    __slots__ = (
        "__weakref__",
        "certain",
        "descriptor",
        "identity",
        "replaced",
        "routing_ids",
        "seen_at",
        "since",
    )

    def __init__(self, descriptor: int, since: float, certain: bool, seen_at: float) -> None:
        self.descriptor, self.since, self.certain, self.seen_at = (
            descriptor,
            since,
            certain,
            seen_at,
        )
        self.replaced = False
        self.identity: tuple[bytes, Any] | None = None
        self.routing_ids: tuple[bytes, ...] = ()

    def __repr__(self) -> str:
        return f"<Connection {self.descriptor}>"


def descriptor_of(origin: Any) -> int | None:
    """The descriptor of the connection that a message came by.

    Args:
        origin: of the message, as ``Frames.receive`` returns it; what this has returned; or None.
    Returns:
        None where there is none: inproc.
    """
    if origin.__class__ is int:
        return origin
    try:
        descriptor: int | None = origin.get(SRCFD)
    except (zmq.ZMQError, AttributeError):
        return None
    return descriptor


def _is_open(descriptor: int) -> bool:
    try:
        fcntl(descriptor, F_GETFD)
    except OSError:
        return False
    return True


class Connections:
    """The connections of one ROUTER. Made in the serving thread, before the ROUTER is bound.

    Args:
        router: a ROUTER; None: nothing will ever be known.
        events: further events (``zmq.EVENT_...``) that are read, for ``heard``.
    Attributes:
        fd: becomes readable when there is something to look at (an edge: look until nothing is
            left); -1 for never.
        live: those that are open, by their descriptors.
        fresh: those of them that nobody has heard of yet: whoever wants to see their first messages
            takes them out.
        ended: those that have ended, the oldest first: whoever acts on it takes them out.
        lasting: routing ids of peers to which the ROUTER has connected: libzmq connects again, and
            their pipes stay.
        heard: event -> who is called with its value when it is read.
        unfinished: whether ``look`` has left something; then its caller looks again, soon.
        looked_at: when everything had been read, in seconds of ``time.monotonic``.
        trailing: whether messages of ended connections may still come.
    """

    def __init__(self, router: zmq.Socket[Any] | None, events: Iterable[int] = ()) -> None:
        self.fd = -1
        self.looked_at, self.unfinished = inf, False
        self._router, self._closed = router, router is None
        if router is not None:
            self._watch(router, reduce(or_, map(int, events), ACCEPTED | CONNECTED | DISCONNECTED))
        self.live: dict[int, Connection] = {}
        self.fresh: dict[int, Connection] = {}
        self.ended: list[Connection] = []
        self.lasting: set[bytes] = set()
        self.heard: dict[int, Callable[[int], object]] = {}
        self.trailing = False
        self._trailing_until = 0.0
        self._early: dict[int, int] = {}  # ended before they were said to have begun, by descriptor
        # Descriptors of which an ended connection may not be read whole.
        self._unread: set[int] = set()
        self._closing: list[int] = []
        self._uncertain: dict[int, Connection] = {}

    def _watch(self, router: zmq.Socket[Any], events: int) -> None:
        address = f"inproc://green_router.connections.{os.getpid()}.{next(names)}"
        router.monitor(address, events)
        self._events = router.context.socket(zmq.PAIR, socket_class=zmq.Socket)
        self._events.setsockopt(zmq.RCVHWM, 0)
        self._events.setsockopt(zmq.LINGER, 0)
        self._events.connect(address)
        self._recv: Callable[[int], bytes] = self._events.recv
        # Asked first: mostly nothing has happened, and a receive that finds nothing raises, which
        # costs ten times as much.
        self._readable = frames_of(self._events, False).readable
        self.fd = self._events.getsockopt(zmq.FD)
        self.looked_at = monotonic()

    # -- what libzmq says --------------------------------------------------------------------------

    def look(self) -> bool:
        """Read what has happened to connections, all of it: a few calls for each connection that
        has come or gone.

        Returns:
            Whether anything has happened.
        Raises:
            ZMQError: the context was terminated.
        """
        if self._closed:
            return False
        now, readable = monotonic(), self._readable
        if not readable():
            self.looked_at = now
            return False
        recv, heard = self._recv, self.heard
        for _ in range(MOST_EVENTS):
            event = recv(NOBLOCK)
            recv(NOBLOCK)  # its endpoint
            kind, descriptor = EVENT.unpack(event)
            if kind == DISCONNECTED:
                self._disconnected(descriptor, now)
            elif kind in (ACCEPTED, CONNECTED):
                self._accepted(descriptor, now)
            if kind in heard:
                heard[kind](descriptor)
            if not readable():
                self.looked_at, self.unfinished = now, False
                return True
        self.unfinished = True
        return True

    def _accepted(self, descriptor: int, now: float) -> None:
        early = self._early.get(descriptor, 0)
        if early:  # it has ended before
            self._early[descriptor] = early - 1
            if early == 1:
                del self._early[descriptor]
            return
        connection = Connection(descriptor, self.looked_at, descriptor not in self._unread, now)
        if descriptor in self._closing:
            self._closing.remove(descriptor)
        if not connection.certain:
            self._uncertain[descriptor] = connection
        self.live[descriptor] = self.fresh[descriptor] = connection

    def _disconnected(self, descriptor: int, now: float) -> None:
        connection = self.live.pop(descriptor, None)
        if connection is None:
            self._early[descriptor] = self._early.get(descriptor, 0) + 1
            connection = Connection(descriptor, self.looked_at, False, now)
        self.fresh.pop(descriptor, None)
        self._uncertain.pop(descriptor, None)
        self._unread.add(descriptor)
        self._closing.append(descriptor)
        self.trailing, self._trailing_until = True, now + TRAILING_SECONDS
        self.ended.append(connection)

    @property
    def uncertain(self) -> bool:
        """True if ``seen_empty`` would tell something."""
        return bool(self._uncertain or self._closing)

    def seen_empty(self, readable: Callable[[], object]) -> bool:
        """There was no message to receive, after ``look``: what ended connections have said, has
        been read.

        libzmq hands on the last messages of a connection, closes its descriptor, and may accept
        another one on it then. So it is true of connections whose descriptor is known to be
        another's, and of those whose descriptor is closed, where there is still nothing to receive.

        Args:
            readable: ``readable()``, whether there is something to receive now.
        Returns:
            Whether there is, for all that was asked: an edge may have been consumed.
        """
        closing, self._closing = self._closing, []
        closed = [descriptor for descriptor in closing if not _is_open(descriptor)]
        if len(closed) < len(closing) and monotonic() < self._trailing_until:
            self._closing = [descriptor for descriptor in closing if descriptor not in closed]
        # What is not closed then is seen when another connection has its descriptor.
        more = bool(closed) and bool(readable())
        if not more:
            self._unread.difference_update(closed)
            self.trailing = bool(self._closing)
        for descriptor, connection in self._uncertain.items():
            connection.certain = True
            self._unread.discard(descriptor)
        self._uncertain.clear()
        return more

    # -- who it was --------------------------------------------------------------------------------

    def connected(self, origin: Any, received_at: float) -> bool:
        """True if the connection that a message came by is open, as far as is known.

        Args:
            origin: of the message, None where there is none.
            received_at: no later than it was received, in seconds of ``time.monotonic``.
        Returns:
            False only for what is certain. True for what is not known.
        **Thread-safe.**
        """
        descriptor = descriptor_of(origin)
        if descriptor is None:
            return True
        connection = self.live.get(descriptor)
        return (
            connection is not None and received_at >= connection.since and not connection.replaced
        )

    def of(self, origin: Any, received_at: float) -> Connection | None:
        """The connection that a message came by; None if it has ended, or is not certain.

        Arguments as for ``connected``. It is as true as ``looked_at`` is late: look before, where
        that matters.
        """
        connection = self.perhaps(origin, received_at)
        return connection if connection is not None and connection.certain else None

    def perhaps(self, origin: Any, received_at: float) -> Connection | None:
        """The connection that a message may have come by: that, if it has not ended."""
        connection = self.live.get(descriptor_of(origin))  # type: ignore[arg-type]
        return connection if connection is not None and received_at >= connection.since else None

    def drop(self, connection: Connection) -> bool:
        """Disconnect a peer. Its queues are freed, it learns that at once, and its socket may
        connect again.

        Returns:
            False if it has ended already; nobody else's connection is touched.
        """
        self.look()
        if self.live.get(connection.descriptor) is not connection:
            return False
        try:
            duplicate = socket.socket(fileno=os.dup(connection.descriptor))
        # libzmq has closed it just now, or there is no descriptor left for a duplicate.
        except OSError:
            return False
        with duplicate:
            # libzmq tells before it closes. So if it has told nothing by now, this is a duplicate
            # of that connection.
            self.look()
            if self.live.get(connection.descriptor) is not connection:
                return False
            with suppress(OSError):  # the peer is gone
                duplicate.shutdown(socket.SHUT_RDWR)
        return True

    def close(self) -> None:
        """Let go of the monitor, before the ROUTER is closed: first what writes, then what reads.
        Any thread, once."""
        if not self._closed:
            self._closed = True
            assert self._router is not None
            with suppress(zmq.ZMQError):  # the ROUTER is closed already, and with it the monitor
                self._router.disable_monitor()
            self._events.close(0)
