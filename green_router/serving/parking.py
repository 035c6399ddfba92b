"""When to try again to send what a peer could not take.

Rules of this file
  1. It decides when; the owner sends. What waits, and how much, is the outbox's
     (messages/parked.py).
  2. Every turn of the owner may be the one in which libzmq learned that a full peer has drained, so
     every turn is a cause to try. Trying in vain costs a hundredth of the owner's time at the most,
     however many peers are frozen: a sweep is followed by a pause a hundred times as long as what
     it tried in vain took. A sweep itself is short, and the next one begins with those that it did
     not come to. Peers that read, if slowly, have sweeps and pauses of their own, and cost as much
     at the most.
  3. One timer, for whichever comes first: the end of a pause, a second look, the age limit. While
     nothing is parked there is none.
  4. What is parked is no longer in flight: it is bounded here, by bytes and age, and keeps nobody's
     request from coming in. Of the request only the envelope is kept, and that is counted too.
  5. A stream of which an item was lost is at its end (streams.py). Where an item or a reply has
     waited too long, its peer does not read, and the streams that wait for it end in the same
     moment: each in its turn would keep its place for as long again.

Why a second look
  libzmq tells its socket that a peer has drained by a command, and every socket call may take that
  command in: the one that has just been refused, or the read of EVENTS that ends the turn. Then the
  peer has room, and no edge will say so. So a sweep that left something behind is repeated after 2
  ms, 20 ms, 200 ms ...: five times in a minute, not for ever. Every other turn begins that anew,
  because its calls may have taken a command in as well.
"""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from gevent.hub import get_hub

from ..messages.ledger import ABANDONED, PEER_GONE, PEER_STALLED, STREAM_ITEMS
from ..messages.parked import ParkedReplies, Queue
from ..messages.size import body_bytes, bytes_of
from ..settings import Settings
from ..sockets.frames import FULL, GONE
from .mailbox import Mail
from .reply_envelope import envelope_of
from .streams import Streams, Tail

PAUSE_RATIO = 100
"""Pause after a sweep, in lengths of what it tried in vain: 1 % of the owner's time."""

SWEEP_BUDGET = 64
SWEEP_SECONDS = 0.001
"""Parked replies sent in one sweep at the most, and what trying peers in vain may take (some 10 us
each); the rest in the next turn."""

READER_SECONDS = 0.5
"""How long after it last took something a peer counts as one that reads, and does not wait for the
end of a pause that others have earned. With a high-water mark of 20 and 60 clients beside it that
do not read, a client that asks 400 times a second and was late once for half a second had 20
replies each pause, and fell ever further behind; so it has caught up at once."""

STALLED_SECONDS = 1.0
"""How long after something has waited too long streams to its peer, if it is still full, are at
their end. Those that wait for it learn that in a few milliseconds, in worker processes too."""

FIRST_LOOK = 0.002
LOOK_GROWTH = 10
"""Seconds until the second look, and how much later each further one is. The first is longer than
libzmq lets commands wait in a send (max_command_delay, 1 ms)."""


class Parking:
    """Replies whose peer is full, and the time of the next try.

    Args:
        settings: of the server.
        outbox: what is parked, and the callbacks for when it has left (``when_clear``).
        streams: those of which an item may come too late.
        deliver: ``deliver(request, body)`` sends it and returns SENT, or FULL (still), or GONE (the
            peer is).
        sent: ``sent(mail)``: it has left.
        lost: ``lost(mail, fate)``: it never will be.
        ring: makes the owner take a turn.
    Attributes:
        peers: routing id -> what waits for it. Read by the owner for every reply.
        streams: as above. Likewise.
        unsettled: how many of the parked replies settle a request when they leave.
        due: whether the owner shall call ``retry`` in this turn.
    """

    __slots__ = (
        "_age_limit",
        "_deliver",
        "_look",
        "_loop",
        "_lost",
        "_next_try",
        "_next_try_of_readers",
        "_oldest",
        "_readers",
        "_ring",
        "_sent",
        "_stalled",
        "_timer",
        "_timer_ends",
        "due",
        "outbox",
        "peers",
        "streams",
        "unsettled",
    )

    def __init__(
        self,
        settings: Settings,
        outbox: ParkedReplies,
        streams: Streams,
        deliver: Callable[[Any, Any], int],
        sent: Callable[[Mail], None],
        lost: Callable[[Mail, int], None],
        ring: Callable[[], None],
    ) -> None:
        self.outbox, self.streams = outbox, streams
        self.peers: dict[bytes, Queue] = outbox.peers
        self.unsettled = 0
        self.due = False
        self._deliver, self._sent, self._lost, self._ring = deliver, sent, lost, ring
        self._age_limit = settings.park_timeout
        self._oldest = 0.0
        self._look = 0.0
        self._next_try = self._next_try_of_readers = 0.0
        self._readers: dict[bytes, float] = {}
        self._stalled: dict[bytes, float] = {}
        self._loop = get_hub().loop
        self._timer: Any = self._loop.timer(0)
        self._timer_ends = 0.0

    def park(self, mail: Mail, now: float) -> bool:
        """OWNER. Let this reply wait behind those of its peer; False where the bounds are reached,
        and nothing is done."""
        request, body, fate = mail
        if fate == STREAM_ITEMS and self._stalled.get(request.frames[0], 0.0) > now:
            return False
        if fate == STREAM_ITEMS or body is None or id(request) in self.streams.known:
            kept: Any = Tail(request, self.streams.watch(request))
        else:
            kept = envelope_of(request)
        self._look = 0.0
        if not self.peers:
            self._oldest = now
        size = bytes_of(kept.frames) + body_bytes(body)
        parked = self.outbox.park(request.frames[0], (kept, body, fate), size, now)
        self.unsettled += parked and fate <= ABANDONED
        return parked

    def noticed(self, now: float) -> bool:
        """OWNER. Something is parked, and a turn has been taken: perhaps a peer has room again.
        Returns whether it is time to try."""
        if not self.due:  # else it is the timer's turn
            self._look = 0.0
            if now >= self._pause_ends():
                self.due = True
            else:
                self._wake_at(self._pause_ends(), now)
        return self.due

    def _pause_ends(self) -> float:
        """OWNER. When somebody may be tried again."""
        return min(self._next_try, self._next_try_of_readers) if self._readers else self._next_try

    def retry(self) -> None:
        """OWNER. Send what can be sent, drop what has waited too long, and decide when to try
        again."""
        self.due = False
        started = monotonic()
        budget, in_vain, tried = SWEEP_BUDGET, 0, 0
        everybody = started >= self._next_try
        readers = {
            peer: until
            for peer, until in self._readers.items()
            if until > started and peer in self.peers
        }
        for peer in list(self.peers if everybody else readers):
            sent = self._try_peer(peer, budget)
            self.outbox.later(peer)
            until = readers.pop(peer, 0.0)
            if peer in self.peers and (sent or until):
                # Behind the others: it has had its turn.
                readers[peer] = started + READER_SECONDS if sent else until
            tried, in_vain, budget = tried + 1, in_vain + (sent == 0), budget - sent
            if budget <= 0 or monotonic() - started > SWEEP_SECONDS:
                if budget <= 0:
                    self._ring()
                break
        self._expire(started)
        now = monotonic()
        # Not for what the system did meanwhile: a process that had no processor for 15 ms would
        # pause for 1.5 s.
        spent = min(now - started, 2 * SWEEP_SECONDS)
        next_try = now + PAUSE_RATIO * spent * in_vain / max(tried, 1)
        if everybody:
            self._next_try = next_try
        else:
            self._next_try_of_readers = next_try
        self._readers = readers
        if self.peers:
            self._look = (
                FIRST_LOOK if in_vain < tried else max(FIRST_LOOK, self._look * LOOK_GROWTH)
            )
            self._wake_at(max(self._pause_ends(), now + self._look), now)
            if self._age_limit is not None:
                self._wake_at(self._oldest + self._age_limit, now)

    def _expire(self, now: float) -> None:
        """OWNER. Give up what has waited too long. Who is oldest is found out only when that one is
        due: all that is parked later is younger."""
        if self._age_limit is not None and now - self._age_limit >= self._oldest:
            self._stalled = {peer: until for peer, until in self._stalled.items() if until > now}
            for item in self.outbox.expire(now - self._age_limit):
                if item.__class__ is tuple:
                    self._stalled[item[0].frames[0]] = now + STALLED_SECONDS
                self._give_up(item, PEER_STALLED)
            self._oldest = self.outbox.oldest() or now

    def _try_peer(self, peer: bytes, budget: int) -> int:
        """OWNER. Send to one peer until it is full again; returns how many left, or were given up
        because it is gone."""
        sent = 0
        while peer in self.peers and sent < budget:
            mail = self.outbox.first(peer)
            if mail.__class__ is tuple:
                mail = self.streams.if_whole(mail)
                outcome = self._deliver(mail[0], mail[1])
                if outcome == FULL:
                    break
                if outcome == GONE:
                    for item in self.outbox.drop(peer):
                        self._give_up(item, PEER_GONE)
                        sent += 1
                    break
                self.outbox.remove_first(peer)
                self.unsettled -= mail[2] <= ABANDONED
                self._sent(mail)
            else:
                self.outbox.remove_first(peer)
                mail()
            sent += 1
        return sent

    def _give_up(self, item: Any, fate: int) -> None:
        """OWNER. Drop replies that will not be sent; whoever waits for that is told."""
        if item.__class__ is tuple:
            self.unsettled -= item[2] <= ABANDONED
            self._lost(item, fate)
        else:
            item()

    def discard(self, peer: bytes, matches: Callable[[Mail], bool]) -> int:
        """OWNER. Give up the replies to a peer that match: who asked is gone, another one has its
        name. Returns how many."""
        gone = self.outbox.discard(peer, matches)
        for item in gone:
            self._give_up(item, PEER_GONE)
        self.due |= bool(gone)  # whoever waits for what was given up is told in this turn
        return len(gone)

    def give_up(self, fate: int) -> None:
        """OWNER. Count everything that still waits as that fate. The end."""
        for peer in list(self.peers):
            for item in self.outbox.drop(peer):
                self._give_up(item, fate)
        self.close()

    def close(self) -> None:
        """Try nothing again."""
        self._timer.close()

    def _wake_at(self, when: float, now: float) -> None:
        """See to it that the owner looks at that time, unless it will earlier."""
        if not self._timer.active or when < self._timer_ends:
            self._timer.close()
            self._timer = self._loop.timer(max(when - now, 0.0))
            self._timer_ends = when
            self._timer.start(self._time_is_up)

    def _time_is_up(self) -> None:
        """HUB."""
        self.due = True
        self._ring()
