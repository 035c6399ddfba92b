"""The servers of this process, for code that has none at hand: a handler under ``green-router
serve``, or a greenlet of its own.

Rules of this file
  1. It knows who serves, and keeps nobody alive.
  2. What it does is the server's own ``send``; here is only found out whose.
"""

from __future__ import annotations

import os
import weakref
from typing import Protocol

from greenlet import getcurrent

from ..errors import ServerStopped, StateError
from ..hub import forked
from ..messages.request import BytesLike
from .greenlets import HandlerGreenlet


class Sender(Protocol):
    """An object that can push to clients: a Server, or what stands for it in a worker process."""

    def send(self, routing_id: bytes, *frames: BytesLike) -> None:
        """Push a message to a client. **Thread-safe.**"""


class Servers:
    """The servers that serve. **Thread-safe**: the tuple is never changed, always replaced."""

    def __init__(self) -> None:
        self._known: tuple[tuple[int, weakref.ref[Sender]], ...] = ()
        self._had_one = False

    def enter(self, server: Sender) -> None:
        """Note a server that has begun to serve."""
        self._known, self._had_one = (*self._but(server), (os.getpid(), weakref.ref(server))), True
        forked.arm(self)

    def disarm(self) -> None:
        """In a forked child: whoever may think that they serve there, too, is told. What a handler
        forks is a job."""
        if not isinstance(getcurrent(), HandlerGreenlet):
            for pid, server in self._known:
                forked.tell_if_it_goes_on(server, pid)

    def leave(self, server: Sender) -> None:
        """Forget a server; harmless when repeated."""
        self._known = self._but(server)

    def _but(self, server: Sender) -> tuple[tuple[int, weakref.ref[Sender]], ...]:
        return tuple((pid, known) for pid, known in self._known if known() not in (None, server))

    def only(self) -> Sender:
        """The one that serves. Raises StateError and ServerStopped as ``send`` does."""
        servers = [(pid, server) for pid, known in self._known if (server := known()) is not None]
        here = [server for pid, server in servers if pid == os.getpid()] or [
            server for _, server in servers
        ]
        if len(here) == 1:
            return here[0]
        if here:
            raise StateError(
                f"{len(here)} servers serve in this process: use the send of the one that is meant"
            )
        if self._had_one:
            raise ServerStopped("the server has ended; this message cannot leave")
        raise StateError("nothing is served in this process yet")


SERVERS = Servers()


def send(routing_id: bytes, *frames: BytesLike) -> None:
    """Push a message to a client of the server that this process serves: ``Server.send``, where no
    server is at hand.

    In a handler under ``green-router serve``, in one process or in a worker, and in greenlets and
    OS threads that the application has started. With ``--dispatch direct`` a worker reaches the
    clients that are connected to it.

    Args:
        routing_id: of a client that is connected, ``request.routing_id`` of an earlier request.
        frames: the body; the delimiter that the envelope policy has goes before it. None gives one
            empty frame.
    Raises:
        StateError: nothing is served in this process yet, or by several servers: then use the
            ``send`` of one.
        ServerStopped, WrongProcess, BadReply, ValueError: as ``Server.send`` does.
    **Thread-safe**; it returns before the message has left, but **blocks** where it is far ahead,
    as ``Server.send`` does.
    """
    SERVERS.only().send(routing_id, *frames)
