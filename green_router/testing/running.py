"""For tests of programs that use green_router: a running server, clients, and the accounts that
must balance.

Rules of this file
  1. Real parts: real sockets on loopback, the real server. Nothing is simulated here.
  2. Everything that is opened is closed, in time or with an error.

::

    from green_router.testing import running_server

    def test_my_handler():
        with running_server(my_handler) as server:
            assert server.ask(b"hello") == b"HELLO"
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import gevent
import zmq
import zmq.green

from ..messages.ledger import FATES
from ..messages.request import BytesLike, Request
from ..serving.mailbox import settles
from ..serving.parts import USUAL, Parts
from ..serving.server import Server
from ..settings import ServerKeywords, Unpack

PATIENCE = float(os.environ.get("GREEN_ROUTER_TEST_PATIENCE", "1"))
"""All waits here are multiplied by it; raise it on a slow machine."""

DEADLINE = 10.0 * PATIENCE
"""Seconds after which a wait that should have ended is an error."""


class RunningServer(Server):
    """A Server with clients at hand; made by ``running_server``."""

    def __init__(
        self,
        handler: Callable[[Request], Any],
        parts: Parts = USUAL,
        /,
        **settings: Unpack[ServerKeywords],
    ) -> None:
        super().__init__(handler, parts, **settings)
        self._clients: list[zmq.Socket[Any]] = []
        self._clients_context: zmq.Context[Any] | None = None

    def client(self, kind: int = zmq.REQ, **options: Any) -> zmq.Socket[Any]:
        """A connected zmq.green socket, closed with the server.

        Args:
            kind: zmq.REQ, zmq.DEALER, ...
            options: socket options by their attribute names, set before it connects:
                ``routing_id=b"me"``.
        """
        if self._clients_context is None:
            inproc = self.endpoints[0].startswith("inproc:")
            self._clients_context = (
                zmq.green.Context.shadow(self.context.underlying) if inproc else zmq.green.Context()
            )
        socket: zmq.Socket[Any] = self._clients_context.socket(kind)
        socket.linger = 0
        for name, value in options.items():
            setattr(socket, name, value)
        for endpoint in self.endpoints[:1]:
            socket.connect(endpoint)
        self._clients.append(socket)
        return socket

    def ask(self, *frames: BytesLike, seconds: float = DEADLINE) -> bytes:
        """Send one request with a REQ socket of its own and return the last frame of the reply.

        Raises:
            gevent.Timeout: no reply came in that time.
        """
        socket = self.client(zmq.REQ)
        with gevent.Timeout(seconds):
            socket.send_multipart(list(frames) or [b""])
            reply: list[bytes] = socket.recv_multipart()
        return reply[-1]

    def close_clients(self) -> None:
        """Close every socket that ``client`` and ``ask`` made."""
        while self._clients:
            self._clients.pop().close(0)
        context, self._clients_context = self._clients_context, None
        if context is not None and not self.endpoints[0].startswith("inproc:"):
            context.term()


@contextmanager
def running_server(
    handler: Callable[[Request], Any], *endpoints: str, **settings: Unpack[ServerKeywords]
) -> Iterator[RunningServer]:
    """Run a server for the length of a ``with`` block; afterwards it is stopped and its accounts
    are checked.

    Args:
        handler: as for Server.
        endpoints: where to bind; any free port on loopback if none is given.
        settings: as for Server.
    Yields:
        The server, started.
    Raises:
        AssertionError: a message has no fate, or two.
    """
    server = RunningServer(handler, **settings)
    server.bind(*(endpoints or ("tcp://127.0.0.1:0",)))
    server.start()
    try:
        yield server
        assert_balanced(server)
    finally:
        server.close_clients()
        server.stop(0)
        assert_balanced(server)


def whereabouts(server: Server) -> dict[str, int]:
    """Count the messages without a fate, each in the place where it is: the server itself only
    subtracts.

    Returns:
        place -> how many; nothing for a server that was never started.
    """
    if server._shutdown is None:
        return {}
    parked = (mail for queue in server._owner.parking.peers.values() for mail, _, _ in queue.items)
    return {
        "inbox": len(server._handlers.inbox),
        "ahead": len(server._owner.ahead.requests),
        "open": len(server._in_flight),
        "explaining": len(server._failures.in_on_error),
        "mailbox": server._mailbox.count(settles),
        "parked": sum(map(settles, parked)),
    }


def assert_balanced(server: Server) -> None:
    """Check that each message that was received is in exactly one place, counted where it is and
    not by subtraction.

    Raises:
        AssertionError: ``received != sum(fates) + in_flight + waiting``.
    """
    stats = server.stats()
    assert (
        stats["received"] == sum(stats["fates"].values()) + stats["in_flight"] + stats["waiting"]
    ), stats
    where = whereabouts(server)
    assert sum(where.values()) == stats["in_flight"] + stats["waiting"], (where, stats)


def settled(server: Server, *fates: str) -> int:
    """How many messages ended as one of these fates (all fates if none is named)."""
    counts = server.stats()["fates"]
    return sum(counts[name] for name in fates or FATES)


def eventually(condition: Callable[[], Any], seconds: float = DEADLINE) -> Any:
    """Wait until the condition holds, letting other greenlets run; returns its value.

    Raises:
        AssertionError: it did not hold in time.
    """
    timeout = gevent.Timeout.start_new(seconds)
    try:
        while not (value := condition()):
            gevent.sleep(0.001)
        return value
    except gevent.Timeout as expired:
        if expired is not timeout:
            raise
        raise AssertionError(f"not within {seconds:g} s: {condition}") from None
    finally:
        timeout.close()
