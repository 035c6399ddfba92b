"""The connection that a request came by: whether it is open, and what libzmq knows of it.

Rules of this file
  1. It is asked of the Frame that the request keeps; where it knows nothing, that is no error.
"""

from __future__ import annotations

from typing import Any

import zmq

from ..messages.request import Request
from ..sockets.connections import Connections


def connection_property(request: Request, name: str) -> str | None:
    """A property of the connection: ``Peer-Address``, ``User-Id``; None where it has none.

    Source: zmq_msg_gets(3).
    """
    try:
        value: str | None = request.origin.get(name)
    except zmq.ZMQError:  # a connection without it: inproc, or no authentication
        return None
    return value


def is_open(connections: Connections, request: Any) -> bool:
    """Tell whether the connection of a request is open, as far as is known. **Thread-safe**; a push
    has none."""
    origin = getattr(request, "origin", None)
    return (
        origin is None
        or connections.connected(origin, request.received_at)
        or request.frames[0] in connections.lasting
    )
