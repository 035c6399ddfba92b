"""A ROUTER without sockets, which loses edges exactly as the real one does.

Rules of this file
  1. To the owner it is what ``sockets.router.Router`` is: the same attributes, arguments, results
     and errors, with ROUTER_MANDATORY and NOBLOCK. To a test it hands out peers, which send, take
     and disconnect.
  2. What libzmq's I/O threads do happens when the test says so: between two calls of the owner, or
     before a later one (``meanwhile``). Nothing here runs by itself, and one thread does it all.
  3. Nothing is kinder than libzmq: where it may delay something, ``chance`` decides, and where it
     gives no edge, there is none.

Why edges are lost
  The far sides and the socket share pipes, and tell each other what has changed by commands:
  attached, readable, read, term, acked. A command to the socket makes its descriptor readable if
  none was waiting there. Any call may take all of them in: a receive that found nothing, a read of
  EVENTS, a send now and then. Then the descriptor is silent, and who does not act on what has
  changed will not be told again. Nor is there a command where none is needed: a message that comes
  while the socket has not yet found the pipe empty is simply there.

Source: libzmq's socket_base.cpp (process_commands, recv, send), mailbox.cpp, pipe.cpp, fq.cpp,
router.cpp.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable
from random import Random
from typing import Any

import zmq

from ..serving.parts import Parts
from ..sockets.connections import Connections
from ..sockets.frames_pure import PureFrames
from .peer import END, FakeFrame, FakePeer

INBOUND_POLL_RATE = 100
"""Receives that found a message, between two looks at the commands (libzmq's config.hpp)."""


class FakeRouter:
    """A ROUTER whose peers are the test's. Give it to a server: ``Server(handler, router.parts)``.

    Args:
        capacity: messages that a peer's pipe holds, where ``connect`` says nothing else.
        chance: decides whether a send takes commands in, which libzmq does about once in a
            millisecond.
    Attributes:
        receive, skip, send, readable, fd, endpoints, bind, adopt, call_when_closed, close: as of
            ``sockets.router.Router``.
        peers: all that have ever connected.
        calls: of the socket so far: for each frame, and each look at EVENTS.
        edges: how often the descriptor has become readable.
    """

    def __init__(self, capacity: int = 1000, chance: Random | None = None) -> None:
        self._capacity, self._chance = capacity, chance or Random(0)
        self.fd, self._edge = os.pipe()
        self.connections = Connections(None)
        self.access = None
        self.secured = False
        self.endpoints: list[str] = []
        self.peers: list[FakePeer] = []
        self.calls = self.edges = 0
        self._commands: deque[tuple[str, FakePeer]] = deque()
        self._meanwhile: list[tuple[int, Callable[[], object]]] = []
        self._known: dict[bytes, FakePeer] = {}
        self._pipes: deque[FakePeer] = deque()  # the next to be read from is the first
        self._ticks = 0
        # Of the message that is being read, or was looked at by EVENTS.
        self._frames: deque[bytes] = deque()
        self._from: FakePeer | None = None
        self._to: FakePeer | None = None  # of the message that is being sent ...
        self._more_out = False  # ... if there is one; its peer may have gone
        self._closed = False
        frames = PureFrames(self._recv, self._send, False, lambda: self.readable)
        self.receive, self.skip, self.send = frames.receive, frames.skip, frames.send

    # -- for the test ------------------------------------------------------------------------------

    @property
    def parts(self) -> Parts:
        """Return the parts of a server that serves on this ROUTER."""
        return Parts(router=lambda context, settings, access: self)

    def connect(
        self, routing_id: bytes | None = None, capacity: int | None = None, **properties: str
    ) -> FakePeer:
        """A new peer.

        Args:
            routing_id: 1 to 255 bytes; of libzmq's kind if None. It takes the place of one that has
                it (handover).
            capacity: messages, at least 1.
            properties: ``Peer_Address="127.0.0.1"``, with an underscore for the hyphen.
        """
        name = routing_id or b"\0" + (len(self.peers) + 1).to_bytes(4, "big")
        known = {key.replace("_", "-"): value for key, value in properties.items()}
        peer = FakePeer(self.command, name, capacity or self._capacity, known)
        self.peers.append(peer)
        self.command("attached", peer)
        return peer

    def meanwhile(self, calls: int, action: Callable[[], object]) -> None:
        """Let something happen on the far side after that many further calls: in the middle of the
        owner's turn."""
        self._meanwhile.append((self.calls + calls, action))

    def catch_up(self) -> bool:
        """Do what ``meanwhile`` was asked for and has not happened yet; False if there was
        nothing."""
        waiting, self._meanwhile = self._meanwhile, []
        for _, action in waiting:
            action()
        return bool(waiting)

    @property
    def unread(self) -> int:
        """Messages that the owner could receive, whether or not it was told."""
        return bool(self._frames) + sum(
            message is not END for peer in self.peers for message in peer.inbound
        )

    # -- for the owner -----------------------------------------------------------------------------

    def _recv(self, flags: int = 0, copy: bool = True) -> Any:
        """The next frame, bytes or a FakeFrame; zmq.Again if there is none. It never blocks."""
        self._called()
        self._ticks += 1
        if self._ticks >= INBOUND_POLL_RATE:
            self._process()
        if not self._look():
            self._process()
            if not self._look():
                raise zmq.Again()
        data = self._frames.popleft()
        more = bool(self._frames)
        assert self._from is not None
        return data if copy else FakeFrame(data, more, self._from.properties)

    def _send(self, data: bytes, flags: int = 0) -> None:
        """Send a frame. EAGAIN or EHOSTUNREACH come with the first one of a message, the routing
        id."""
        self._called()
        if self._chance.random() < 0.5:
            self._process()
        more = bool(flags & zmq.SNDMORE)
        if self._more_out:
            self._more_out = more
            if self._to is not None and not (self._to.write(data, more) and more):
                self._to = None
        elif more:
            peer = self._known.get(data)
            if peer is None:
                raise zmq.ZMQError(zmq.EHOSTUNREACH)
            peer.check()
            self._to, self._more_out = peer, True

    def readable(self) -> bool:
        """Read EVENTS: whether there is something to receive."""
        self._called()
        self._process()
        return self._look()

    def bind(self, endpoint: str) -> str:
        """Note an endpoint. It is served by nobody."""
        self.endpoints.append(endpoint)
        return endpoint

    def adopt(self, endpoint: str, descriptor: int) -> str:
        """Note an endpoint, and close the descriptor."""
        os.close(descriptor)
        return self.bind(endpoint)

    def call_when_closed(self, told: Callable[[], None]) -> None:
        """Nobody else closes it."""

    def close(self) -> None:
        """Close the descriptor; harmless when repeated."""
        if not self._closed:
            self._closed = True
            os.close(self.fd)
            os.close(self._edge)

    # -- commands ----------------------------------------------------------------------------------

    def command(self, name: str, peer: FakePeer) -> None:
        """Tell the socket something: an edge, if it had nothing to learn before."""
        if not self._commands and not self._closed:
            os.write(self._edge, b"!")
            self.edges += 1
        self._commands.append((name, peer))

    def _called(self) -> None:
        assert not self._closed, "a call on a ROUTER that is closed"
        due = [action for when, action in self._meanwhile if when <= self.calls]
        self._meanwhile = [(when, action) for when, action in self._meanwhile if when > self.calls]
        self.calls += 1
        for action in due:
            action()

    def _process(self) -> None:
        """Take all commands in: the descriptor is silent then."""
        self._ticks = 0
        if self._commands:
            os.read(self.fd, 1)
        waiting, self._commands = self._commands, deque()
        for name, peer in waiting:
            if name == "attached":
                self._attach(peer)
            elif name == "acked":
                self._erase(peer)
            peer.handle(name)
            if peer.readable and peer not in self._pipes:
                self._pipes.append(peer)

    def _attach(self, peer: FakePeer) -> None:
        former = self._known.get(peer.routing_id)
        if former is not None:
            former.connected = False
            former.end()
            if self._to is former:
                self._to = None
            if former in self._pipes:
                self._pipes.remove(former)
        self._known[peer.routing_id] = peer

    def _erase(self, peer: FakePeer) -> None:
        if self._known.get(peer.routing_id) is peer:
            del self._known[peer.routing_id]
        if self._to is peer:
            self._to = None

    def _look(self) -> bool:
        """True if there is a frame to read; fair among the pipes, message by message."""
        while not self._frames and self._pipes:
            peer = self._pipes[0]
            message = peer.next_message()
            if message is not None:
                self._frames.extend(message)
                self._from = peer
                self._pipes.rotate(-1)
            else:
                self._pipes.popleft()
        return bool(self._frames)
