"""Deals with mail that cannot be sent: it is parked, or lost, and counted.

Rules of this file
  1. The owner sends, and comes here where that has failed, or where the peer is known to be full or
     gone. Here is decided what is counted then.
  2. Each message is counted once. What is parked leaves the admission's count at once: it has
     bounds of its own (parking.py); its fate is counted when it leaves, or is given up.
  3. A stream of which an item is lost is at its end, and its request with it.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from ..messages.admission import Admission
from ..messages.in_flight import InFlight
from ..messages.ledger import (
    ABANDONED,
    ANSWERED,
    LOST_PUSHES,
    LOST_STREAM_ITEMS,
    PARKED,
    PEER_GONE,
    PEER_STALLED,
    PUSHES,
    STREAM_ITEMS,
    Ledger,
)
from ..messages.parked import ParkedReplies
from ..messages.request import Request
from ..settings import Settings
from ..sockets.frames import FULL
from .mailbox import Mail
from .parking import Parking
from .reply_envelope import AddressedPush
from .streams import Streams


class Undelivered:
    """Parks, loses and counts what could not be sent.

    Args:
        settings: of the server.
        in_flight, ledger: the neighbours.
        admission: counts what is limited; None for nothing.
        outbox, streams, deliver, ring: for the parking.
    Attributes:
        parking: what waits for its peer.
    """

    __slots__ = ("_admission", "_in_flight", "_ledger", "parking")

    def __init__(
        self,
        settings: Settings,
        in_flight: InFlight,
        ledger: Ledger,
        admission: Admission | None,
        outbox: ParkedReplies,
        streams: Streams,
        deliver: Callable[[Any, Any], int],
        ring: Callable[[], None],
    ) -> None:
        self._in_flight, self._ledger, self._admission = in_flight, ledger, admission
        self.parking = Parking(settings, outbox, streams, deliver, self._sent, self._lost, ring)

    def take(self, mail: Mail, outcome: int, now: float) -> int:
        """OWNER. Deal with mail whose peer is FULL or GONE. Returns what is to be counted now."""
        request, _, fate = mail
        if outcome != FULL:
            if request.__class__ is AddressedPush:
                request.unknown(request.frames[0])
            return self._lose(mail, PEER_GONE)
        if not self.parking.park(mail, now):
            return self._lose(mail, PEER_STALLED)
        if self._admission is not None and fate <= ABANDONED:
            self._admission.release(request.frames)
        return PARKED

    def count(self, fate: int, request: Request) -> None:
        """OWNER. Count what the owner does not count by the way."""
        self._ledger.counts[fate] += 1
        if self._admission is not None and fate <= ABANDONED:
            self._admission.release(request.frames)

    def sweep_up(self, mail: Mail) -> None:
        """When the owner has ended: count mail that is left over."""
        self.count(self._lose(mail, ABANDONED), mail[0])

    def _sent(self, mail: Mail) -> None:
        """OWNER. A parked reply has been sent, or the end of a stream has been reached."""
        request, _, fate = mail
        self._ledger.counts[fate] += 1
        if fate == ANSWERED:
            self._ledger.observe(monotonic() - request.received_at)

    def _lost(self, mail: Mail, fate: int) -> None:
        """OWNER. A parked reply will never be sent."""
        self._ledger.counts[self._lose(mail, fate)] += 1

    def _lose(self, mail: Mail, fate: int) -> int:
        """OWNER. Give up what will never be sent, with a stream item its request; returns what is
        to be counted."""
        request, _, intended = mail
        if intended == PUSHES:
            return LOST_PUSHES
        if intended == STREAM_ITEMS:
            stream = self.parking.streams.of(request)
            stream.lose(fate)
            asked = stream.request()
            if asked is not None and self._in_flight.claim(asked):
                self.count(fate, asked)
            return LOST_STREAM_ITEMS
        return fate if intended <= ABANDONED else intended
