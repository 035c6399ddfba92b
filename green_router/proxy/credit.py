"""The proxy that knows what each server has in hand: clients' requests go to the least busy, and
replies back.

Rules of this file
  1. A request is taken from the clients' socket only when a server has room for it. Before, it
     waits where libzmq keeps it, and clients feel that through their high-water marks. So nothing
     piles up here, and the order is kept.
  2. Nothing here waits for a peer. A reply for a client that has gone, or that does not read, is
     dropped and counted.
  3. A message is passed on as it is; only the routing id that a socket adds on one side is taken
     off on the other.
  4. Draining: no more requests are taken, until nobody has anything in hand, or the grace is over.

Why not libzmq's own proxy (native.py), which is several times as quick
  It shares out as DEALER does, the next one to the next, to whoever is connected. A server that
  leaves cannot tell it, and what is on its way to it then is lost; measured in docs/scaling.md. Nor
  can it know who has how much.
"""

from __future__ import annotations

from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub

from ..hub.log import Log
from ..messages.credit import BYE, LOAD, greeting, read
from ..sockets.frames import FULL, GONE, SENT
from ..sockets.router import Router
from .roster import FORGOTTEN_AFTER, Roster

log = Log("proxy")

BUDGET = 128
"""Messages of one side in a turn at the most."""

LOOK_EVERY = 1.0
"""Seconds between two looks for servers that have gone silent, while there are servers."""

ASK_AFTER = 1.5
"""Seconds of silence after which one is spoken to: libzmq says then whether its connection is still
there."""


class CreditProxy:
    """Passes messages between two ROUTERs. Belongs to the hub of the thread that made it.

    Args:
        front, back: bound, for clients and for servers.
        max_frames: of a message.
    """

    def __init__(self, front: Router, back: Router, max_frames: int) -> None:
        self._front, self._back, self._most = front, back, max_frames
        self._roster = Roster()
        self._counts = dict.fromkeys(("requests", "replies", "gone", "full", "malformed"), 0)
        self._held: list[bytes] | None = None
        self._taking, self._ended, self._look_due = True, False, False
        self._event, self._empty = Event(), Event()
        loop = get_hub().loop
        self._watchers: list[Any] = [loop.io(router.fd, 1) for router in (front, back)]
        self._timer = loop.timer(LOOK_EVERY, LOOK_EVERY)

    def run(self) -> None:
        """Pass messages until ``end``. **Blocks** the calling greenlet."""
        for watcher in self._watchers:
            watcher.start(self._event.set)
        self._timer.start(self._second)
        self._event.set()
        try:
            while not self._ended:
                self._event.wait()
                self._event.clear()
                while self._turn() and not self._ended:
                    gevent.sleep(0)
        finally:
            for watcher in (*self._watchers, self._timer):
                watcher.stop()
                watcher.close()

    def drain(self, seconds: float) -> int:
        """Take no more, and end when nothing is in hand. **Blocks**, for so long at the most;
        returns how many are left."""
        self._taking = False
        self._event.set()
        self._empty.wait(seconds)
        left = self._roster.in_hand
        self.end()
        return left

    def end(self) -> None:
        """End at once."""
        self._ended = True
        self._event.set()

    def stats(self) -> dict[str, Any]:
        """Return what was passed on, and how the servers are; plain data."""
        now = monotonic()
        return {
            "dispatch": "credit",
            **self._counts,
            "lost": self._roster.lost,
            "workers": [
                {
                    "id": worker.key.hex(),
                    "requests": worker.total,
                    "in_hand": worker.in_hand,
                    "window": worker.window,
                    "silent": round(now - worker.seen, 3),
                    "leaving": worker.leaving,
                }
                for worker in self._roster.workers.values()
            ],
        }

    # -- a turn ------------------------------------------------------------------------------------

    def _turn(self) -> bool:
        """Replies first; True if there may be more to do at once."""
        if self._look_due:
            self._look()
        more = self._take_replies()
        now = monotonic()
        if self._taking or self._held is not None:
            more |= self._take_requests(now)
        if not self._taking and self._held is None and not self._roster.in_hand:
            self._empty.set()
        # Sending swallows edges of both descriptors: this is the last look before the next wait.
        readable = (
            bool(self._front.readable()) and self._taking and self._roster.next(now) is not None
        )
        return more or bool(self._back.readable()) or readable

    def _take_replies(self) -> bool:
        receive, send, counts, most = self._back.receive, self._front.send, self._counts, self._most
        for _ in range(BUDGET):
            message = receive(most)
            if message is None:
                return False
            frames = message[0]
            if not frames[1]:
                self._hear(frames)
            elif len(frames) > most or len(frames) < 3:
                self._refuse(self._back, frames)
            else:
                outcome = send(frames[1:], len(frames) - 2, frames[-1])
                counts["replies" if outcome == SENT else "full" if outcome == FULL else "gone"] += 1
        return True

    def _take_requests(self, now: float) -> bool:
        """True if the budget was not enough."""
        receive, send, counts, most, roster = (
            self._front.receive,
            self._back.send,
            self._counts,
            self._most,
            self._roster,
        )
        for _ in range(BUDGET):
            worker = roster.next(now)
            if worker is None:
                return False
            frames = self._held
            if frames is None:
                message = receive(most) if self._taking else None
                if message is None:
                    return False
                frames = message[0]
                if len(frames) > most or len(frames) < 2:
                    self._refuse(self._front, frames)
                    continue
                counts["requests"] += 1
            self._held = None
            outcome = send([worker.key, *frames], len(frames), frames[-1])
            if outcome == SENT:
                roster.give(worker)
                continue
            self._held = frames
            if outcome == GONE:
                self._strike(worker.key, "its connection has gone")
            return outcome == GONE
        return True

    def _refuse(self, router: Router, frames: list[bytes]) -> None:
        self._counts["malformed"] += 1
        while len(frames) > self._most and not router.skip(self._most):
            pass

    # -- what servers say --------------------------------------------------------------------------

    def _hear(self, frames: list[bytes]) -> None:
        key, roster, now = frames[0], self._roster, monotonic()
        said = read(frames[2]) if len(frames) == 3 else None
        if said is None:
            self._refuse(self._back, frames)
        elif said[0] == LOAD and key not in roster.workers:
            epoch = roster.greet(key, now)
            if self._tell(key, greeting(epoch)) == SENT:
                gevent.spawn(log.info, "a server has come; %d now", len(roster.workers))
        elif said[0] == LOAD:
            roster.hear(key, *said[1], now)  # type: ignore[call-arg]
        elif said[0] == BYE and key in roster.workers:
            if not roster.workers[key].leaving:
                roster.workers[key].leaving = True
                gevent.spawn(
                    log.info,
                    "a server leaves, with %d requests in hand",
                    roster.workers[key].in_hand,
                )
            self._tell(key, BYE)

    def _tell(self, key: bytes, word: bytes) -> int:
        outcome = self._back.send([key, b""], 2, word)
        if outcome == GONE and key in self._roster.workers:
            self._strike(key, "its connection has gone")
        return outcome

    def _strike(self, key: bytes, why: str) -> None:
        leaving = self._roster.workers[key].leaving
        lost = self._roster.strike(key)
        say = log.warning if lost or not leaving else log.info
        gevent.spawn(
            say,
            "a server is struck off, %s: %d requests lost; %d now",
            why,
            lost,
            len(self._roster.workers),
        )

    def _look(self) -> None:
        """Find those that have gone without a word."""
        self._look_due = False
        now = monotonic()
        for worker in self._roster.quiet(ASK_AFTER, now):
            if now - worker.seen > FORGOTTEN_AFTER:
                self._strike(worker.key, f"silent for {FORGOTTEN_AFTER:g} s")
            else:
                self._tell(worker.key, greeting(worker.epoch))

    def _second(self) -> None:
        """HUB."""
        if self._roster.workers:
            self._look_due = True
            self._event.set()
