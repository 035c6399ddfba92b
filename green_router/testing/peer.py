"""The far side of a connection of the fake ROUTER, and the pipe between them.

Rules of this file
  1. A peer is driven by the test (send, take, disconnect), and by the socket, which learns of it by
     commands only.
  2. A pipe is what libzmq's is: it tells the other end of new messages only if that has found it
     empty, and of room only at its low water.

Source: libzmq's pipe.cpp, ypipe.hpp, fq.cpp.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import zmq

ALIVE, ENDING, ENDED, GONE = "alive", "ending", "ended", "gone"
"""A pipe, as the socket knows it: in use; its last messages may be read; nothing may, and the far
side knows; erased."""

END = None
"""In the place of a message: the last that a pipe holds (libzmq's delimiter)."""


class FakeFrame:
    """The frame that ``_recv(flags, False)`` returns: ``bytes``, ``more``, and the properties of
    its connection."""

    __slots__ = ("_properties", "bytes", "more")

    def __init__(self, data: bytes, more: bool, properties: dict[str, str]) -> None:
        self.bytes, self.more, self._properties = data, more, properties

    def get(self, name: str) -> str:
        """A property of the connection; zmq.ZMQError where there is none of that name."""
        try:
            return self._properties[name]
        except KeyError:
            raise zmq.ZMQError(zmq.EINVAL) from None


class FakePeer:
    """The far side of one connection; made by ``FakeRouter.connect``.

    Attributes:
        routing_id: bytes.
        received: messages that it has taken: lists of frames, without the routing id.
        outbound: messages that are on their way to it, and get lost if it goes.
        connected: False once it has disconnected, or another one has taken its routing id.
    """

    def __init__(
        self,
        command: Callable[[str, FakePeer], None],
        routing_id: bytes,
        capacity: int,
        properties: dict[str, str],
    ) -> None:
        self._command, self.routing_id, self.capacity, self.properties = (
            command,
            routing_id,
            capacity,
            properties,
        )
        self.connected = True
        self.received: list[list[bytes]] = []
        self.state = ALIVE
        self.inbound: deque[list[bytes] | None] = deque()
        self.readable = True  # the socket looks here (fq.cpp's active pipes) ...
        self.asleep = (
            False  # ... until it has found nothing: only then is it told of more (ypipe.hpp)
        )
        self.outbound: deque[list[bytes]] = deque()
        self._unfinished: list[bytes] = []
        self._writable = True
        self._written = self._read = self.told = self._known = 0
        self._low_water = (capacity + 1) // 2

    # -- the far side ------------------------------------------------------------------------------

    def send(self, *frames: bytes) -> None:
        """Send a message to the ROUTER: it is there at once, whether or not the owner is told."""
        if self.connected:
            self._put([self.routing_id, *frames])

    def take(self, count: int | None = None) -> int:
        """Take up to that many messages (all if None) into ``received``; returns how many there
        were."""
        taken = 0
        while self.outbound and self.connected and taken != count:
            self.received.append(self.outbound.popleft())
            taken += 1
            self._read += 1
            if self._read % self._low_water == 0:
                self.told = self._read
                self._command("read", self)
        return taken

    def disconnect(self) -> None:
        """Go: what it has not taken is lost, what it has sent may still be read."""
        if self.connected:
            self.connected = False
            self._command("term", self)
            self._put(END)

    @property
    def prospect(self) -> str:
        """Return what the next reply to it would meet, once all commands are known: ``room``,
        ``full`` or ``gone``."""
        if self._written - self.told >= self.capacity and self.state in (ALIVE, ENDING):
            return "full"
        return "room" if self.connected else "gone"

    def _put(self, message: list[bytes] | None) -> None:
        self.inbound.append(message)
        if self.asleep:
            self.asleep = False
            self._command("readable", self)

    # -- the socket's side -------------------------------------------------------------------------

    def handle(self, command: str) -> None:
        """The socket learns of something."""
        if command == "readable":
            self.readable = self.state in (ALIVE, ENDING)
        elif command == "read":
            self._known = self.told
            self._writable = self.state == ALIVE
        elif command == "term" and self.state == ALIVE:
            self.state = ENDING
        elif command == "acked":
            self.state = GONE

    def next_message(self) -> list[bytes] | None:
        """Take the next message off the pipe; None, and no longer ``readable``, if there is
        none."""
        if not self.inbound:
            self.readable, self.asleep = False, True
            return None
        message = self.inbound.popleft()
        if message is END:
            self.end()
        return message

    def end(self) -> None:
        """Nothing more comes from it; its routing id is known until it has been told so."""
        self.readable, self.state = False, ENDED
        self.inbound.clear()
        self._command("acked", self)

    def check(self) -> None:
        """Raise what a send to it meets."""
        if not self._writable or self.state != ALIVE or self.full:
            self._writable = False
            raise zmq.Again() if self.full else zmq.ZMQError(zmq.EHOSTUNREACH)

    @property
    def full(self) -> bool:
        """True if it is full, as far as the socket knows."""
        return self._written - self._known >= self.capacity

    def write(self, frame: bytes, more: bool) -> bool:
        """Add a frame to the message that is being sent; False if the peer has gone meanwhile."""
        if self.state != ALIVE:
            self._unfinished = []
            return False
        self._unfinished.append(frame)
        if not more:
            message, self._unfinished = self._unfinished, []
            self._written += 1
            self.outbound.append(message)
        return True
