"""Requests and errors as the plain data that a channel carries.

Rules of this file
  1. What a worker cannot find out by itself goes along: the address and the user id that libzmq
     knows.
  2. Errors that have meaning to ``on_error`` arrive as what they were; of all others, the name and
     the words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import zmq

from ...errors import HandlerError, HandlerTimeout, WorkerLost
from ...hub.log import words
from ...messages.request import Request
from ...serving.origin import connection_property

Known = dict[str, Any] | None
"""What is known of a peer, by the names of properties, where there is authentication."""


def origin(request: Request, secured: bool) -> tuple[str | None, Known]:
    """The address of a request's peer, and who it is, for the process that cannot ask libzmq."""
    try:
        # As connection_property does: for each request, a call less is worth it.
        address = request.origin.get("Peer-Address")
    except zmq.ZMQError:
        address = None
    return address, {
        name: connection_property(request, name) for name in PROPERTIES
    } if secured else None


def properties(address: str | None, known: Known) -> dict[str, str | None]:
    """Return what ``origin`` has found, by the names of properties."""
    return {"Peer-Address": address} if known is None else {"Peer-Address": address, **known}


PROPERTIES = ("User-Id", "Role")
"""What ZAP has said of a connection."""


def described(error: BaseException) -> tuple[str, tuple[Any, ...]]:
    """An error as plain data."""
    if isinstance(error, HandlerTimeout):
        return error.code, (error.seconds,)
    if isinstance(error, WorkerLost):
        return error.code, (error.pid, error.cause)
    return HandlerError.code, (
        str(error)
        if isinstance(error, HandlerError)
        else f"{type(error).__name__}: {words(error)}",
    )


def restored(description: tuple[str, Iterable[Any]]) -> HandlerError:
    """The error that ``described`` has described."""
    code, arguments = description
    kinds: dict[str, Callable[..., HandlerError]] = {
        HandlerTimeout.code: HandlerTimeout,
        WorkerLost.code: WorkerLost,
    }
    return kinds.get(code, HandlerError)(*arguments)
