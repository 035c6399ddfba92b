"""The metadata that libzmq has of the connection that a request came by.

Rules of this file
  1. It is asked of the Frame that the request keeps; where it knows nothing, that is no error.
"""

from __future__ import annotations

import zmq

from ..messages.request import Request


def connection_property(request: Request, name: str) -> str | None:
    """A property of the connection: ``Peer-Address``, ``User-Id``; None where it has none.

    Source: zmq_msg_gets(3).
    """
    try:
        value: str | None = request.origin.get(name)
    except zmq.ZMQError:  # a connection without it: inproc, or no authentication
        return None
    return value
