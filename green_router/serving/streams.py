"""Streams whose items may come too late: behind one that was lost, or behind the reply that ends
the stream.

Rules of this file
  1. A stream has one end, and nothing makes it forget that: no item leaves behind the last reply,
     and nothing at all behind an item that was lost. A loss overrides the fate that the last reply
     came with, as long as that has not left.
  2. A stream is known for as long as its request exists, or an item of it waits. It keeps no
     request: an item that waits for its peer keeps the envelope alone.
  3. Streams of OS threads are known from their first item on, others from when an item waits or is
     lost: a stream whose client reads costs nothing here.
"""

from __future__ import annotations

from weakref import ref

from ..messages.ledger import (
    ABANDONED,
    ANSWERED,
    LOST_STREAM_ITEMS,
    PEER_GONE,
    PEER_STALLED,
    STREAM_ITEMS,
)
from ..messages.request import Request
from .mailbox import Mail
from .reply_envelope import ReplyEnvelope, came_by
from .windows import Window

LOSSES = (PEER_GONE, PEER_STALLED, ABANDONED)
"""Fates of a stream that has lost an item; its others are what its last reply came with."""


class Stream:
    """One stream.

    Attributes:
        request: a weak reference to it.
        end: the fate that ended the stream, or None.
        window: that of its peer, where ``request.reply`` sends it.
    """

    __slots__ = ("end", "request", "window")

    def __init__(self, request: ref[Request]) -> None:
        self.request = request
        self.end: int | None = None
        self.window: Window | None = None

    def lose(self, fate: int) -> None:
        """OWNER. An item of it was lost."""
        if self.end not in LOSSES:
            self.end = fate


class Tail(ReplyEnvelope):
    """The rest of a request while an item of its stream, or its end, waits for the peer.
    Attributes: stream."""

    __slots__ = ("stream",)

    def __init__(self, request: Request, stream: Stream) -> None:
        super().__init__(
            request.frames[: request.envelope_length],
            request.envelope_length,
            request.received_at,
            came_by(request),
        )
        self.stream = stream


class Streams:
    """The streams that are known.

    Attributes:
        known: by the ids of their requests. The owner looks here for every reply.
    """

    __slots__ = ("known",)

    def __init__(self) -> None:
        self.known: dict[int, Stream] = {}

    def watch(self, request: Request) -> Stream:
        """ANY THREAD. Items of its stream may come too late from now on."""
        key, known = id(request), self.known
        return known.get(key) or known.setdefault(
            key, Stream(ref(request, lambda _: known.pop(key, None)))
        )

    def of(self, request: Request | Tail) -> Stream:
        """OWNER. The stream that mail belongs to."""
        return request.stream if request.__class__ is Tail else self.watch(request)  # type: ignore[arg-type]

    def in_order(self, mail: Mail) -> Mail:
        """OWNER. Return mail of a known request as it is to be sent: an item behind the last reply
        is too late."""
        request, _, fate = mail
        stream = self.known[id(request)]
        if fate == STREAM_ITEMS and stream.end is not None:
            return request, None, LOST_STREAM_ITEMS
        if fate != STREAM_ITEMS and stream.end is None:
            stream.end = fate
        return self._whole(mail, stream)

    def if_whole(self, mail: Mail) -> Mail:
        """OWNER. Return mail that has waited and leaves now, as it is to be counted."""
        return self._whole(mail, mail[0].stream) if mail[0].__class__ is Tail else mail

    def _whole(self, mail: Mail, stream: Stream) -> Mail:
        """Behind a lost item nothing of its stream leaves."""
        request, _, fate = mail
        if stream.end in LOSSES and fate in (STREAM_ITEMS, ANSWERED):
            return request, None, LOST_STREAM_ITEMS if fate == STREAM_ITEMS else stream.end
        return mail
