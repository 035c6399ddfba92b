"""When to try again to send what a peer could not take.

Rules of this file
  1. It decides when; the owner sends. What waits, and how much, is the outbox's (messages/outbox.py).
  2. Every turn of the owner may be the one in which libzmq learned that a full peer has drained, so every turn is a cause
     to try. Trying in vain costs a hundredth of the owner's time at the most, however many peers are frozen: a sweep is
     followed by a pause a hundred times as long as what it tried in vain took.
  3. One timer, for whichever comes first: the end of a pause, a second look, the age limit. While nothing is parked there
     is none.

Why a second look
  libzmq tells its socket that a peer has drained by a command, and every socket call may take that command in: the one
  that has just been refused, or the read of EVENTS that ends the turn. Then the peer has room, and no edge will say so.
  So a sweep that left something behind is repeated after 2 ms, 20 ms, 200 ms ...: five times in a minute, not for ever.
  Every other turn begins that anew, because its calls may have taken a command in as well.
"""
from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

import zmq
from gevent.hub import get_hub

from ..messages.ledger import PEER_GONE, PEER_STALLED
from ..messages.outbox import Outbox, Queue
from ..settings import Settings
from .mail import Mail

PAUSE_RATIO = 100
"""Pause after a sweep, in lengths of what it tried in vain: 1 % of the owner's time."""

SWEEP_BUDGET = 64
"""Parked replies sent in one sweep at the most; the rest in the next turn."""

FIRST_LOOK = 0.002
LOOK_GROWTH = 10
"""Seconds until the second look, and how much later each further one is. The first is longer than libzmq lets commands
wait in a send (max_command_delay, 1 ms)."""


class Parking:
    """Replies whose peer is full, and the time of the next try.

    Args:
        settings: of the server.
        deliver: ``deliver(request, body)`` sends it, or raises zmq.Again (still full) or ZMQError (the peer is gone).
        left: ``left(mail)``: it was sent.
        lost: ``lost(mail, fate)``: it never will be.
        ring: makes the owner take a turn.
    Attributes:
        peers: routing id -> what waits for it. Read by the owner for every reply.
        due: whether the owner shall call ``retry`` in this turn.
    """

    __slots__ = ("_age_limit", "_deliver", "_left", "_look", "_loop", "_lost", "_next_try", "_ring", "_roomy", "_timer",
                 "_timer_ends", "due", "outbox", "peers")

    def __init__(self, settings: Settings, deliver: Callable[[Any, Any], None], left: Callable[[Mail], None],
                 lost: Callable[[Mail, int], None], ring: Callable[[], None]) -> None:
        self.outbox = Outbox(settings.max_parked_bytes_per_peer, settings.max_parked_bytes)
        self.peers: dict[bytes, Queue] = self.outbox.peers
        self.due = False
        self._deliver, self._left, self._lost, self._ring = deliver, left, lost, ring
        self._age_limit = settings.park_timeout
        self._roomy: dict[bytes, list[Callable[[], None]]] = {}
        self._look = 0.0
        self._next_try = 0.0
        self._loop = get_hub().loop
        self._timer: Any = self._loop.timer(0)
        self._timer_ends = 0.0

    def park(self, mail: Mail, now: float) -> None:
        """OWNER. Let this reply wait behind those of its peer, or count it lost where the bounds are reached."""
        request, body, _ = mail
        size = len(body) if body.__class__ is bytes else sum(map(len, body))
        self._look = 0.0
        if not self.outbox.park(request.frames[0], mail, size, now):
            self._lost(mail, PEER_STALLED)

    def noticed(self, now: float) -> None:
        """OWNER. Something is parked, and a turn has been taken: perhaps a peer has room again."""
        if self.due:
            return                      # the timer's turn
        self._look = 0.0
        if now >= self._next_try:
            self.due = True
        else:
            self._wake_at(self._next_try, now)

    def retry(self) -> None:
        """OWNER. Send what can be sent, drop what has waited too long, and decide when to try again."""
        self.due = False
        started = monotonic()
        budget, in_vain, tried = SWEEP_BUDGET, 0, 0
        for peer in list(self.peers):
            sent = self._try_peer(peer, budget)
            tried, in_vain, budget = tried + 1, in_vain + (sent == 0), budget - sent
            if budget <= 0:
                self._ring()
                break
        if self._age_limit is not None:
            for mail in self.outbox.expire(started - self._age_limit):
                self._lost(mail, PEER_STALLED)
        self._call_roomy()
        now = monotonic()
        self._next_try = now + PAUSE_RATIO * (now - started) * in_vain / max(tried, 1)
        if self.peers:
            self._look = FIRST_LOOK if in_vain < tried else max(FIRST_LOOK, self._look * LOOK_GROWTH)
            self._wake_at(max(self._next_try, now + self._look), now)
            oldest = self.outbox.oldest()
            if self._age_limit is not None and oldest is not None:
                self._wake_at(oldest + self._age_limit, now)

    def _try_peer(self, peer: bytes, budget: int) -> int:
        """OWNER. Send to one peer until it is full again; returns how many left, or were given up because it is gone."""
        sent = 0
        try:
            while peer in self.peers and sent < budget:
                mail = self.outbox.first(peer)
                self._deliver(mail[0], mail[1])
                self.outbox.remove_first(peer)
                self._left(mail)
                sent += 1
        except zmq.Again:
            pass
        except zmq.ZMQError as error:
            if error.errno != zmq.EHOSTUNREACH:
                raise
            for mail in self.outbox.drop(peer):
                self._lost(mail, PEER_GONE)
                sent += 1
        return sent

    def when_clear(self, peer: bytes, callback: Callable[[], None]) -> None:
        """OWNER. Call back, from the owner, as soon as nothing waits for that peer: at once if that is so."""
        if peer in self.peers:
            self._roomy.setdefault(peer, []).append(callback)
        else:
            callback()

    def _call_roomy(self) -> None:
        for peer in [peer for peer in self._roomy if peer not in self.peers]:
            for callback in self._roomy.pop(peer):
                callback()

    def give_up(self, fate: int) -> None:
        """OWNER. Count everything that still waits as that fate. The end."""
        for peer in list(self.peers):
            for mail in self.outbox.drop(peer):
                self._lost(mail, fate)
        self._call_roomy()
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
