"""May another request come in?

Rules of this file
  1. Counts and bytes (messages/size.py), of all requests and of each peer's, from when a message is
     taken until it has its fate, or its reply waits for a peer that does not read: then that is
     counted, as parked.
  2. A message that may not come in counts as well, for the moment until its refusal has left.
  3. What is asked for is what is kept: where no peer has a limit, no table of peers is made.

Two answers to too much
  The owner can stop taking (pause): everybody's next messages wait in libzmq, and clients feel it
  through their high-water marks. That bounds all requests together, but not one peer's: a ROUTER
  cannot be told to read from some peers only. So a peer that goes beyond its own limit is refused
  in either mode.
"""

from __future__ import annotations

from sys import maxsize

from .size import FRAME_BYTES, MESSAGE_BYTES


class Admission:
    """The limits, and what counts against them.

    Args:
        max_count, max_bytes: for all messages together; bytes None for no limit.
        max_count_per_peer, max_bytes_per_peer: for those of one peer; None for no limit.
        refusing: whether messages above the limits of the whole are refused, in place of a pause.
    Attributes:
        count, bytes: what is unsettled now; bytes that whole messages take.
        pause_at: how many bytes, when they are reached, let the owner pause.
        needed: whether each message must be asked about; otherwise ``max_in_flight`` alone bounds
            what the owner takes.
    """

    __slots__ = (
        "_max_bytes",
        "_max_bytes_per_peer",
        "_max_count",
        "_max_count_per_peer",
        "_peers",
        "bytes",
        "count",
        "needed",
        "pause_at",
        "refusing",
    )

    def __init__(
        self,
        max_count: int,
        max_bytes: int | None = None,
        max_count_per_peer: int | None = None,
        max_bytes_per_peer: int | None = None,
        refusing: bool = False,
    ) -> None:
        self._max_count, self._max_bytes = max_count, maxsize if max_bytes is None else max_bytes
        self._max_count_per_peer = maxsize if max_count_per_peer is None else max_count_per_peer
        self._max_bytes_per_peer = maxsize if max_bytes_per_peer is None else max_bytes_per_peer
        per_peer = max_count_per_peer is not None or max_bytes_per_peer is not None
        self._peers: dict[bytes, list[int]] | None = {} if per_peer else None
        self.refusing = refusing
        self.pause_at = maxsize if refusing else self._max_bytes
        self.needed = refusing or per_peer or max_bytes is not None
        self.count = self.bytes = 0

    @property
    def reached(self) -> bool:
        """True if a limit of the whole is reached: what comes next has to wait, or is refused."""
        return self.reached_without(0, 0)

    def reached_without(self, count: int, size: int) -> bool:
        """True if a limit of the whole is reached, so many messages and bytes left aside."""
        return self.count - count >= self._max_count or self.bytes - size >= self._max_bytes

    def admit(self, frames: list[bytes]) -> bool:
        """Count a message in.

        Args:
            frames: the whole of it, routing id first.
        Returns:
            False if it must be refused. It counts until then, as all others do.
        """
        size = MESSAGE_BYTES + FRAME_BYTES * len(frames) + sum(map(len, frames))
        self.count += 1
        self.bytes += size
        welcome = not self.refusing or (
            self.count <= self._max_count and self.bytes <= self._max_bytes
        )
        peers = self._peers
        if peers is not None:
            held = peers.get(frames[0])
            if held is None:
                held = peers[frames[0]] = [0, 0]
            held[0] += 1
            held[1] += size
            return (
                welcome
                and held[0] <= self._max_count_per_peer
                and held[1] <= self._max_bytes_per_peer
            )
        return welcome

    def release(self, frames: list[bytes]) -> None:
        """Count a message out, when it has its fate."""
        size = MESSAGE_BYTES + FRAME_BYTES * len(frames) + sum(map(len, frames))
        self.count -= 1
        self.bytes -= size
        peers = self._peers
        if peers is not None:
            held = peers.get(frames[0])
            if held is None:  # one that was abandoned at the end, and nobody knows whose it was
                return
            held[0] -= 1
            held[1] -= size
            if not held[0]:
                # The table is as large as there are peers with unsettled requests.
                del peers[frames[0]]
