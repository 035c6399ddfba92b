"""Clients that keep many requests on their way: what waits, and what a worker has in hand, is never
little.

Rules of this file
  1. Nobody asks twice. So every request gets one reply, whatever happens to workers, or the service
     has lost it.
  2. A reply carries the number of its request. One that nobody waits for is wrong, and there is no
     excuse for it.
"""

from __future__ import annotations

import time
from typing import Any

import zmq
from command_line import LIMIT_SECONDS
from crowd import Askers


class Pipelines(Askers):
    """DEALER clients, a thread each; at the end each waits for the replies that it is owed.

    Args:
        context: for their sockets.
        endpoint: of the service: it echoes the number, or says the excuse and the number.
        clients: how many.
        in_flight: requests of each that are on their way.
        excuse: what a reply begins with that says the request was lost.
    Attributes:
        answered, excused: how often.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        clients: int = 3,
        in_flight: int = 100,
        excuse: bytes | None = None,
    ) -> None:
        self._context, self._endpoint, self._in_flight, self._excuse = (
            context,
            endpoint,
            in_flight,
            excuse,
        )
        self.answered = self.excused = 0
        super().__init__(self._ask_on, clients)

    def _ask_on(self, number: int) -> None:
        dealer = self._context.socket(zmq.DEALER)
        dealer.linger = 0
        dealer.connect(self._endpoint)
        owed: set[bytes] = set()
        sent = answered = excused = 0
        faults = []
        heard_at = time.monotonic()
        while owed or not self._end.is_set():
            while len(owed) < self._in_flight and not self._end.is_set():
                sent += 1
                owed.add(b"%d" % sent)
                dealer.send_multipart([b"", b"%d" % sent])
            if not dealer.poll(100):
                if time.monotonic() > heard_at + LIMIT_SECONDS:
                    faults.append(f"{len(owed)} of {sent} requests have no reply")
                    break
                continue
            heard_at = time.monotonic()
            reply = dealer.recv_multipart()[-1]
            if self._excuse is not None and reply.startswith(self._excuse):
                reply = reply.removeprefix(self._excuse)
                excused += 1
            else:
                answered += 1
            if reply not in owed:
                faults.append(f"nobody waits for {reply!r}")
                break
            owed.remove(reply)
            if sent == len(owed) + 1:
                self._begun.release()
        dealer.close()
        self._begun.release()
        with self._lock:
            self.answered += answered
            self.excused += excused
            self.faults += faults
