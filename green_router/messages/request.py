"""A request: what a handler sees of a message.

Rules of this file
  1. A request never touches a socket, a queue or a clock. What it cannot know or do itself it asks
     of its ``server``, the part of the server that it came through.
  2. Its fields, and the pair ``(client_id, data)`` that it unpacks as, are in fields.py.
  3. Its repr shows sizes and the first bytes in hex, never a body.

Requests are made once for every message, so they have slots and keep the frames as they came:
envelope and body are cut from the list when somebody asks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from ..errors import ReplyError
from .fields import Fields

if TYPE_CHECKING:
    from typing_extensions import Buffer

    BytesLike = Buffer
else:
    BytesLike = Any  # what has the buffer protocol: Python itself has a name for it from 3.12 on


class ServerHandle(Protocol):
    """The calls that a request makes on its server."""

    def reply(self, request: Request, frames: tuple[BytesLike, ...], final: bool) -> None:
        """Let the reply leave, or raise ReplyError."""

    def replied(self, request: Request) -> bool:
        """True if no reply is to come any more."""

    def age(self, request: Request) -> float:
        """Seconds since it was received."""

    def time_left(self, request: Request) -> float | None:
        """Seconds until its deadline, or None where there is none."""

    def connection_property(self, request: Request, name: str) -> str | None:
        """A property of the connection that it came over (zmq_msg_gets(3)), or None."""

    def connected(self, request: Request) -> bool:
        """Tell whether that connection is open, as far as is known."""


class Request(Fields):
    """A message that was admitted, and the one reply that it is owed.

    Attributes:
        frames: the whole message, a list of bytes, routing id first. Do not change it: the reply's
            envelope is cut from it.
        envelope_length: how many of the frames are the envelope, 1..n-1; 2 for a plain REQ.
        data: the first frame of the body, bytes.
        received_at: when the server took it, in seconds of ``time.monotonic``.
        origin: the Frame that libzmq keeps the connection's properties with, or None.
    """

    __slots__ = ("__weakref__",)

    server: ServerHandle

    @property
    def routing_id(self) -> bytes:
        """The peer that it came from: the frame that the ROUTER added, 1..255 bytes. With proxies,
        the nearest hop."""
        return self.frames[0]

    @property
    def envelope(self) -> list[bytes]:
        """The frames that go back verbatim before the reply: the routing id, further hops, the
        delimiter."""
        return self.frames[: self.envelope_length]

    @property
    def body(self) -> list[bytes]:
        """All frames after the envelope, at least one."""
        return self.frames[self.envelope_length :]

    @property
    def age(self) -> float:
        """Seconds since it was received; in a pickled copy, until it was pickled."""
        return self.server.age(self)

    @property
    def time_left(self) -> float | None:
        """Seconds until ``handler_timeout`` ends it (0.0 when it has), or None where there is no
        such limit."""
        return self.server.time_left(self)

    @property
    def replied(self) -> bool:
        """True if it has had its reply, or is owed none any more. **Thread-safe**."""
        return self.server.replied(self)

    @property
    def connected(self) -> bool:
        """True while the connection that it came by is open; False once it has ended, also where
        its client has connected again. True where nothing is known: over inproc, in a pickled copy.
        **Thread-safe**.
        """
        return self.server.connected(self)

    def reply(self, *frames: BytesLike, final: bool = True) -> None:
        """Answer it: from any greenlet, any OS thread, at any time.

        Args:
            frames: the body of the reply, one or more objects with the buffer protocol (bytes,
                array, ...); none gives one empty frame.
            final: False for an item of a stream (for DEALER clients), which another reply will
                follow. That **blocks** the calling greenlet or OS thread while what was streamed to
                that client before waits for it to read, as a generator does.
        Raises:
            AlreadyReplied: it has had its one reply, or was given up. Nothing was sent.
            ServerStopped: the server has ended.
            ReplyError: this is a copy that was pickled; return the reply from there instead.
            WrongProcess: this process was forked from the one that serves.
            BadReply: a frame is something else, or not contiguous.
        **Thread-safe.** It returns before the reply has left; in the hub it never waits.
        """
        self.server.reply(self, frames, final)

    @property
    def peer_address(self) -> str | None:
        """The IP address of the peer; over ipc on Linux ``localhost:UID:GID:PID`` of its process;
        None over inproc."""
        return self._property("Peer-Address") or None

    @property
    def user_id(self) -> str | None:
        """The user id that ZAP gave the peer's connection, or None without authentication."""
        return self._property("User-Id") or None

    @property
    def role(self) -> str | None:
        """The role that the peer's key file, or the callable that let it in, has given it; None for
        none."""
        return self._property("Role") or None

    def _property(self, name: str) -> str | None:
        return self.server.connection_property(self, name)

    def __repr__(self) -> str:
        total = sum(map(len, self.body))
        start = f" {self.data[:8].hex()}{'...' if len(self.data) > 8 else ''}" if self.data else ""
        return (
            f"<Request from {self.routing_id.hex()}: {len(self.body)} frames, {total} bytes{start}>"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        known = {name: self._property(name) for name in ("Peer-Address", "User-Id", "Role")}
        copy = Elsewhere(self.age, self.time_left, known)
        return Request, (self.frames, self.envelope_length, self.received_at, None, copy)


class Elsewhere:
    """The server handle of a request that was pickled: plain data, without a server.

    Args:
        age: how old the request was then, in seconds.
        left: how long it had then, in seconds, or None.
        known: the properties of its connection.
    """

    __slots__ = ("_age", "_known", "_left")

    def __init__(self, age: float, left: float | None, known: dict[str, str | None]) -> None:
        self._age, self._left, self._known = age, left, known

    def reply(self, request: Request, frames: tuple[BytesLike, ...], final: bool) -> None:
        raise ReplyError(
            "this is a copy of a request, without its server: return the reply instead of sending "
            "it from here"
        )

    def replied(self, request: Request) -> bool:
        return False

    def age(self, request: Request) -> float:
        return self._age

    def time_left(self, request: Request) -> float | None:
        return self._left

    def connection_property(self, request: Request, name: str) -> str | None:
        return self._known.get(name)

    def connected(self, request: Request) -> bool:
        return True

    def __reduce__(self) -> tuple[Any, ...]:
        return Elsewhere, (self._age, self._left, self._known)
