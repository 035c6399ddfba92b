"""The cost in bytes of frames that are kept.

Rules of this file
  1. Whoever bounds bytes counts by this: what a limit promises is memory, not what goes over the
     wire. A frame of no byte costs something too, and so do the objects around a message.
"""

from __future__ import annotations

from collections.abc import Sequence

FRAME_BYTES = 56
"""What a frame costs beside its bytes: the head of the object, what the allocator rounds up, its
place in a list."""

MESSAGE_BYTES = 320
"""What a message costs beside its frames: the objects around it and its places in tables (measured:
see tests/messages/test_size.py)."""


def bytes_of(frames: Sequence[bytes]) -> int:
    """Bytes that these frames take."""
    return sum(map(len, frames)) + FRAME_BYTES * len(frames)


def body_bytes(body: bytes | list[bytes] | None) -> int:
    """Bytes that a body takes: one frame, several, or none."""
    if isinstance(body, bytes):
        return len(body) + FRAME_BYTES
    return bytes_of(body) if body else 0
