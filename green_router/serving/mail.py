"""The items of the owner's mailbox.

Rules of this file
  1. Mail is a tuple ``(request, body, fate)``, or WAKE (look at the socket), or an owner callback:
     a callable that the owner calls, short, never blocking, never code of the application.
  2. ``body`` is bytes (one frame), a list of bytes (several), or None: nothing is sent, only the
     fate is counted.
  3. In the place of a request stands something that has its ``frames`` and ``envelope_length``
     where there is no request, or none any more: ReplyEnvelope.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..messages.ledger import FATES
from ..sockets.connections import descriptor_of

WAKE = None
"""Mail that says: look at the socket."""

# tuple[Request | ReplyEnvelope, bytes | list[bytes] | None, int] | None | Callable[[], None]
Mail = Any


class ReplyEnvelope:
    """In the place of a request in mail: what is left of one that is no more, or never was (a
    push).

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


def settles(mail: Mail) -> bool:
    """True if this mail gives a request its fate."""
    return mail.__class__ is tuple and mail[2] < len(FATES)
