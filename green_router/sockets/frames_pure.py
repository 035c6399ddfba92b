"""Whole messages from and to a ROUTER, in Python, by the calls that take one frame.

Rules of this file
  1. It never waits. What cannot be done now is told by the result: None, FULL.
  2. A message is taken or sent in one call, and whole: EAGAIN and EHOSTUNREACH come with its first
     frame or not at all. Of a message of too many frames the rest is taken by ``skip``.
  3. Every other error of libzmq is raised, as pyzmq raises it.

This is what serves where there is no compiled module, and what tells how that one must behave
(frames.py chooses).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import zmq

SENT, FULL, GONE = 0, 1, 2
"""What became of a message: libzmq has it; its peer's queue is full (EAGAIN); there is no such peer
(EHOSTUNREACH)."""

NOBLOCK = int(zmq.NOBLOCK)
MORE = int(zmq.NOBLOCK | zmq.SNDMORE)


class PureFrames:
    """Messages by way of ``recv`` and ``send`` of one socket.

    Args:
        recv: ``recv(flags)`` -> bytes, ``recv(flags, False)`` -> Frame, which knows whether more
            follows at half the cost of asking the socket (RCVMORE), and knows the connection;
            zmq.Again if there is none.
        send: ``send(bytes, flags)``.
        body_second: whether the frame behind the routing id may be the body. Then the routing id's
            Frame is kept as the origin, which costs a tenth of what receiving costs; otherwise the
            second one is, and holds a delimiter.
        readable: ``readable()`` -> true if there is a message; it processes libzmq's commands, and
            raises what it fails with.
    Attributes:
        readable: likewise.
    """

    __slots__ = ("_body_second", "_recv", "_surplus", "_transmit", "readable")

    def __init__(
        self,
        recv: Callable[..., Any],
        send: Callable[..., Any],
        body_second: bool,
        readable: Callable[[], object],
    ) -> None:
        self._recv, self._transmit, self._body_second, self.readable = (
            recv,
            send,
            body_second,
            readable,
        )
        self._surplus = False

    def receive(self, most: int) -> tuple[list[bytes], Any] | None:
        """Take a message.

        Args:
            most: of a message with more frames than this (2 at least), one more is returned and the
                rest is left to ``skip``.
        Returns:
            (frames, origin): the routing id first; ``origin.get(name)`` is a property of the
            connection (zmq_msg_gets(3)). None if there is no message.
        """
        recv = self._recv
        try:
            routing_id = recv(NOBLOCK, not self._body_second)
        except zmq.Again:
            return None
        origin = second = recv(NOBLOCK, False)
        if self._body_second:
            origin, routing_id = routing_id, routing_id.bytes
        if not second.more:
            return [routing_id, second.bytes], origin
        frame = recv(NOBLOCK, False)
        # Nearly all have two or three: a loop would be dearer.
        frames = [routing_id, second.bytes, frame.bytes]
        while frame.more:
            if len(frames) > most:
                self._surplus = True
                break
            frame = recv(NOBLOCK, False)
            frames.append(frame.bytes)
        return frames, origin

    def skip(self, most: int) -> bool:
        """Throw away up to that many frames of what ``receive`` has left of a message; False if
        that was not all."""
        for _ in range(most):
            if not self._surplus:
                break
            self._surplus = self._recv(NOBLOCK, False).more
        return not self._surplus

    def send(self, frames: Sequence[bytes], envelope_length: int, body: Any) -> int:
        """Send a message: the first ``envelope_length`` of these frames, routing id first, and the
        body: bytes, or a list of them.

        Returns:
            SENT, FULL or GONE.
        """
        transmit = self._transmit
        try:
            transmit(frames[0], MORE)
            if envelope_length == 2:  # nearly all
                transmit(frames[1], MORE)
            else:
                for frame in frames[1:envelope_length]:
                    transmit(frame, MORE)
            if body.__class__ is bytes:
                transmit(body, NOBLOCK)
            else:
                for frame in body[:-1]:
                    transmit(frame, MORE)
                transmit(body[-1], NOBLOCK)
        except zmq.Again:
            return FULL
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            return GONE
        return SENT
