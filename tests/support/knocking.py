"""Clients that come to a server that does not let in everybody.

Rules of this file
  1. Real sockets: what is told about them is what the server counts.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import zmq

from green_router import Request, Server
from green_router.testing import RunningServer

Serve = Callable[..., RunningServer]
Options = dict[str, Any]


def who(request: Request) -> bytes:
    """A handler: who asks, in the server's eyes."""
    return f"{request.user_id} {request.role}".encode()


def ask(server: RunningServer, options: Options) -> bytes:
    """What a client with these socket options is answered."""
    client = server.client(zmq.REQ, **options)
    client.send(b"who")
    reply: bytes = client.recv()
    return reply


def knock(server: RunningServer, options: Options) -> zmq.Socket[Any]:
    """A client that will not be let in."""
    client = server.client(zmq.DEALER, reconnect_ivl=60_000, **options)
    client.send_multipart([b"", b"let me in"])
    return client


def causes(server: Server) -> dict[str, int]:
    """How often who was kept out why, without the causes that there were not."""
    return {cause: times for cause, times in server.stats()["auth_failures"].items() if times}
