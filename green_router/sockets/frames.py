"""Whole messages from and to a ROUTER: the calls that the owner has.

Rules of this file
  1. Whoever serves, the interface is the same, and so are the results and the errors: that of ``PureFrames``.
"""
from __future__ import annotations

from collections.abc import Sequence
from types import MethodType
from typing import Any, Protocol

import zmq
from zmq.backend import Socket as Compiled

from .frames_pure import FULL, GONE, SENT, PureFrames

__all__ = ["FULL", "GONE", "SENT", "Frames", "frames_of"]


class Frames(Protocol):
    """Messages of one ROUTER; ``PureFrames`` says what each call does."""

    def receive(self, most: int) -> tuple[list[bytes], Any] | None:
        """Take a message, of so many frames at the most; None if there is none."""

    def skip(self, most: int) -> bool:
        """Throw away what is left of one that had more; False if that was not all."""

    def send(self, frames: Sequence[bytes], hops: int, body: bytes | list[bytes]) -> int:
        """Send a message: SENT, FULL or GONE."""


def frames_of(socket: zmq.Socket[Any], body_second: bool) -> Frames:
    """The calls of that socket.

    Args:
        socket: a ROUTER with ROUTER_MANDATORY, of pyzmq or of zmq.green.
        body_second: whether the frame behind the routing id may be a message's body.
    """
    return PureFrames(MethodType(Compiled.recv, socket), MethodType(Compiled.send, socket), body_second)
