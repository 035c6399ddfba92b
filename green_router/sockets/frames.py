"""Whole messages from and to a ROUTER: the calls that the owner has, compiled or in Python.

Rules of this file
  1. Whichever serves, the interface is the same, and so are the results and the errors: those of
     ``PureFrames``.
  2. The compiled module calls the libzmq that pyzmq has loaded, and no other. Where that cannot be
     found, or is not what is known here, where the module was not built, and where
     GREEN_ROUTER_PURE asks for it, Python serves.

How libzmq is found
  pyzmq's compiled backend depends on it, and dlsym looks for a name in a library and in what that
  depends on: so the functions are those that pyzmq itself calls, whether libzmq came in pyzmq's
  wheel or is the system's. On PyPy the backend is another one, and on Windows GetProcAddress does
  not look into dependencies.
"""

from __future__ import annotations

import ctypes
import errno
import sys
from collections.abc import Callable, Sequence
from types import MethodType
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as Compiled
from zmq.backend import zmq_poll

from ..compiled import ASKED_FOR_PURE, compiled
from .frames_pure import FULL, GONE, SENT, PureFrames

KNOWS_BY_THE_FIRST = zmq.zmq_version_info() >= (4, 3, 5)
"""Whether the properties of the connection come with the routing id's frame. Before, they are lost
where EVENTS is read before the message: then the frame behind it tells, and is kept, also where it
is the body."""

__all__ = ["FULL", "GONE", "IN_USE", "SENT", "Frames", "frames_of"]


class Frames(Protocol):
    """Messages of one ROUTER; ``PureFrames`` says what each call does."""

    def receive(self, most: int) -> tuple[list[bytes], Any] | None:
        """Take a message, of so many frames at the most; None if there is none."""

    def skip(self, most: int) -> bool:
        """Throw away what is left of one that had more; False if that was not all."""

    def send(self, frames: Sequence[bytes], envelope_length: int, body: bytes | list[bytes]) -> int:
        """Send a message: SENT, FULL or GONE."""

    @property
    def readable(self) -> Callable[[], object]:
        """Called, it tells whether there is a message, and processes libzmq's commands."""


def _error_of(number: int) -> zmq.ZMQError:
    """The exception that pyzmq raises for this errno."""
    kinds: dict[int, type[zmq.ZMQError]] = {
        zmq.EAGAIN: zmq.Again,
        zmq.ETERM: zmq.ContextTerminated,
        errno.EINTR: zmq.error.InterruptedSystemCall,
    }
    return kinds.get(number, zmq.ZMQError)(number)


def _load() -> tuple[Any, str]:
    """The compiled class, or None; and which one serves, with the reason if it is the pure one."""
    if ASKED_FOR_PURE:
        return None, "pure (GREEN_ROUTER_PURE)"
    module = compiled("sockets._frames")
    if module is None:
        return None, "pure (the compiled module was not built)"
    try:
        library = ctypes.CDLL(sys.modules[Compiled.__module__].__file__)
        version = (ctypes.c_int(), ctypes.c_int(), ctypes.c_int())
        library.zmq_version(*map(ctypes.byref, version))
        found = tuple(part.value for part in version)
        if found != zmq.zmq_version_info() or found[0] != 4 or not hasattr(Compiled, "_closed"):
            return None, "pure (a pyzmq that is not known)"
        if not KNOWS_BY_THE_FIRST:
            return None, "pure (libzmq is older than 4.3.5)"
        module.load(
            {
                name: ctypes.cast(getattr(library, name), ctypes.c_void_p).value
                for name in module.NEEDED
            },
            _error_of,
        )
    except (OSError, AttributeError, ValueError, TypeError):
        return None, "pure (pyzmq's libzmq was not found)"
    return module.CompiledFrames, "compiled"


_compiled, IN_USE = _load()


def frames_of(socket: zmq.Socket[Any], body_second: bool) -> Frames:
    """The calls of that socket.

    Args:
        socket: a ROUTER with ROUTER_MANDATORY, of pyzmq or of zmq.green.
        body_second: whether the frame behind the routing id may be a message's body.
    """
    if _compiled is not None:
        frames: Frames = _compiled(socket)
        return frames
    polled = [(socket, int(zmq.POLLIN))]

    def readable() -> object:
        # zmq_poll without waiting reads EVENTS, at a third of what ``get(EVENTS)`` takes: that
        # looks the option up in an Enum. Of a socket that is closed it would look at descriptor 0
        # instead.
        if socket.closed:
            raise zmq.ZMQError(errno.ENOTSOCK)
        return zmq_poll(polled, 0)

    return PureFrames(
        MethodType(Compiled.recv, socket),
        MethodType(Compiled.send, socket),
        body_second and KNOWS_BY_THE_FIRST,
        readable,
    )
