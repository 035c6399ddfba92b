"""How many messages may be taken now.

Rules of this file
  1. ``max_in_flight`` bounds the requests that have no fate; replies that wait for their peer
     (parking.py) have their own bounds. What else is limited, the admission counts.
  2. What is held is counted when it matters: until then the last count, less what was taken since,
     is a lower bound of the room, however much has been answered meanwhile.
  3. What was read ahead (read_ahead.py) holds no place.
"""

from __future__ import annotations

from ..messages.admission import Admission
from ..messages.ledger import Ledger
from ..settings import Settings
from .overload import Overload
from .parking import Parking
from .read_ahead import ReadAhead


def admission_of(settings: Settings) -> Admission | None:
    """The admission that these settings ask for; None where ``max_in_flight`` alone bounds what is
    taken."""
    admission = Admission(
        settings.max_in_flight,
        settings.max_in_flight_bytes,
        settings.max_in_flight_per_peer,
        settings.max_in_flight_bytes_per_peer,
        settings.overload == "refuse",
    )
    return admission if admission.needed else None


class Room:
    """The room for requests.

    Args:
        max_in_flight: how many may be held.
        admission: counts what else is limited; None for nothing.
        ledger, parking: know how many are held.
        overload: told when there is no room, and when there is some again.
        ahead: what has no place yet.
    """

    __slots__ = (
        "_admission",
        "_ahead",
        "_ledger",
        "_max_in_flight",
        "_overload",
        "_parking",
        "_spare",
    )

    def __init__(
        self,
        max_in_flight: int,
        admission: Admission | None,
        ledger: Ledger,
        parking: Parking,
        overload: Overload,
        ahead: ReadAhead,
    ) -> None:
        self._max_in_flight, self._admission, self._ledger = max_in_flight, admission, ledger
        self._parking, self._overload, self._ahead = parking, overload, ahead
        self._spare = 0

    def of(self, wanted: int) -> int:
        """OWNER. How many of so many may be taken. The caller takes no more, or asks again before
        it does."""
        admission, overload = self._admission, self._overload
        if admission is not None and admission.refusing:
            if overload.full and not admission.reached:
                overload.ease()
            return wanted
        ahead = self._ahead
        reached = admission is not None and admission.reached_without(
            len(ahead.requests), ahead.bytes
        )
        if self._spare >= wanted and not reached and not overload.full:
            self._spare -= wanted
            return wanted
        held = self._ledger.unsettled - self._parking.unsettled - len(ahead.requests)
        self._spare = self._max_in_flight - held
        room = 0 if reached else min(wanted, self._spare)
        if room <= 0:
            overload.fill(held)
        elif overload.full:
            overload.ease()
        self._spare -= wanted
        return room
