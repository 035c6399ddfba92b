"""What is said of malformed messages: something, but never a flood.

Rules of this file
  1. Each message is counted elsewhere; here only words are made. Sizes and routing ids, never content.
  2. The first of a peer in a second is said, and of at most ten peers in a second; how many more there were is said with
     the next one.
"""
from __future__ import annotations

import logging
from time import monotonic

from ..errors import MalformedMessage

log = logging.getLogger("green_router.malformed")

LINES_PER_SECOND = 10


class Complaints:
    """Logs malformed messages, at most ten lines a second."""

    __slots__ = ("_peers", "_second", "_silent")

    def __init__(self) -> None:
        self._second = -1
        self._peers: set[bytes] = set()
        self._silent = 0

    def worth_saying(self, routing_id: bytes) -> bool:
        """Whether this one shall be logged. Call it once for each."""
        second = int(monotonic())
        if second != self._second:
            self._second = second
            self._peers.clear()
        if routing_id in self._peers or len(self._peers) >= LINES_PER_SECOND:
            self._silent += 1
            return False
        self._peers.add(routing_id)
        return True

    def say(self, routing_id: bytes, reason: MalformedMessage) -> None:
        """Log it, with the number of those that were not logged since the last."""
        more = f" ({self._silent} more since the last such line)" if self._silent else ""
        self._silent = 0
        log.warning("dropped a malformed message from %s: %s%s", routing_id.hex(), reason, more)
