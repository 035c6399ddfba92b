"""The fields of a request, and the pair that it unpacks as: compiled, or in Python.

Rules of this file
  1. A request unpacks, measures and indexes as the pair ``(client_id, data)`` that the hand-written
     loops pass around, equals it, and is found in a dict or a set by it. Two requests are equal
     only if they are the same one: a client may ask the same thing twice.
  2. Whichever serves, the interface is the same, and so are the results and the errors: those of
     ``PureFields``. The loops' handlers unpack and look up a request each time they are asked:
     three calls of Python, or none.
  3. Frames, envelope_length and data are not to be set: the compiled ones refuse it, since they
     keep the hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..compiled import compiled


class PureFields:
    """The fields of a message, and the pair that they are for a loop."""

    __slots__ = ("data", "envelope_length", "frames", "origin", "received_at", "server")

    def __init__(
        self,
        frames: list[bytes],
        envelope_length: int,
        received_at: float,
        origin: Any,
        server: Any,
    ) -> None:
        self.frames = frames
        self.envelope_length = envelope_length
        self.data = frames[envelope_length]
        self.received_at = received_at
        self.origin = origin
        self.server = server

    def __iter__(self) -> Iterator[bytes]:
        return iter((self.frames[0], self.data))

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> bytes:
        return (self.frames[0], self.data)[index]

    def __eq__(self, other: object) -> bool:
        if isinstance(other, PureFields):
            return self is other
        return (self.frames[0], self.data) == other if isinstance(other, tuple) else NotImplemented

    def __hash__(self) -> int:
        # Of all its bytes: our own tables have requests by their ids.
        return hash((self.frames[0], self.data))

    def __bool__(self) -> bool:
        return True


_compiled = compiled("messages._fields")
if TYPE_CHECKING or _compiled is None:
    Fields = PureFields
else:
    Fields = _compiled.CompiledFields
