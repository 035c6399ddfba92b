"""The envelope of a request, in the place of one that is no more, or never was.

Rules of this file
  1. In mail it stands where a request would (mailbox.py): it has what is needed to send a reply,
     and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..sockets.connections import descriptor_of


class ReplyEnvelope:
    """An envelope, all that is left of a request that is no more, or never was (a push).

    Attributes:
        frames, envelope_length: as a request has them; nothing but the envelope is needed to send a
            reply.
        received_at: as a request has it, where its reply is still to leave.
        origin: where another connection may have its routing id before that, the descriptor of its
            own; None elsewhere.
    """

    __slots__ = ("envelope_length", "frames", "origin", "received_at")

    def __init__(
        self,
        frames: list[bytes],
        envelope_length: int,
        received_at: float = 0.0,
        origin: Any = None,
    ) -> None:
        self.frames, self.envelope_length, self.received_at, self.origin = (
            frames,
            envelope_length,
            received_at,
            origin,
        )


class AddressedPush(ReplyEnvelope):
    """A push to a client whose id a handler has returned in a pair.

    Attributes:
        unknown: ``unknown(client_id)``, called by the owner where no client has that id.
    """

    __slots__ = ("unknown",)

    def __init__(self, envelope: list[bytes], unknown: Callable[[bytes], None]) -> None:
        super().__init__(envelope, len(envelope))
        self.unknown = unknown


def envelope_of(request: Any) -> ReplyEnvelope:
    """Return the envelope alone of a request; body and connection metadata are let go."""
    return ReplyEnvelope(
        request.frames[: request.envelope_length],
        request.envelope_length,
        request.received_at,
        came_by(request),
    )


def came_by(request: Any) -> int | None:
    """Return the descriptor of a request's connection, where its client has chosen its routing id,
    and so may come back with it."""
    return descriptor_of(request.origin) if request.frames[0][0] else None


NO_ENVELOPE = ReplyEnvelope([b""], 0)
"""Where there is nobody to reply to: what is put with it is counted, and nothing is sent."""
