"""Replies whose peer cannot take them yet.

Rules of this file
  1. It never sends. It answers three questions: may this one wait, what may be tried now, and what
     has waited too long.
  2. Per peer, replies leave in the order they came. Between peers there is no order.
  3. ``now`` is an argument (float seconds, monotonic). This file never reads a clock.
  4. What waits is opaque here; its size in bytes is told, envelope and body, as messages/size.py
     counts them.
  5. A reply that is larger than what may wait for a peer may wait alone: otherwise a client that is
     a moment late could not be told anything large. What may wait altogether holds in any case.
  6. A marker waits in its place among the replies and costs nothing: whoever put it there learns
     that they have left.

Why it exists
  With ROUTER_MANDATORY a full peer gives EAGAIN, and POLLOUT does not tell which peer has room
  again (zmq_setsockopt(3)). The owner must not wait for one peer, so its replies wait here. The
  high-water mark counts messages; memory is counted in bytes, so here bytes are bounded.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from .size import MESSAGE_BYTES


class ParkedReplies:
    """Queues of replies, one a peer, bounded in bytes for each peer and altogether.

    Args:
        max_bytes_per_peer, max_bytes: the bounds.
    """

    __slots__ = ("bytes", "count", "max_bytes", "max_bytes_per_peer", "peers")

    def __init__(self, max_bytes_per_peer: int, max_bytes: int) -> None:
        self.max_bytes_per_peer, self.max_bytes = max_bytes_per_peer, max_bytes
        self.peers: dict[bytes, Queue] = {}
        self.bytes = 0
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def park(self, peer: bytes, item: Any, size: int, now: float) -> bool:
        """Let a reply wait behind those of the same peer.

        Args:
            peer: the routing id.
            item: whatever the caller wants back.
            size: bytes of its frames.
        Returns:
            False if a bound would be exceeded; nothing has changed then.
        """
        size += MESSAGE_BYTES
        queue = self.peers.get(peer)
        most = self.max_bytes_per_peer
        fits = queue.bytes + size <= most if queue is not None else most > 0
        if not fits or self.bytes + size > self.max_bytes:
            return False
        if queue is None:
            queue = self.peers[peer] = Queue()
        queue.items.append((item, size, now))
        queue.bytes += size
        self.bytes += size
        self.count += 1
        return True

    def mark(self, peer: bytes, marker: Any) -> None:
        """Put a marker behind what waits for a peer now: something must."""
        queue = self.peers[peer]
        queue.items.append((marker, 0, queue.items[-1][2]))

    def when_clear(self, peer: bytes, callback: Callable[[], None]) -> None:
        """Have a callback called when all has left that waits for a peer now, as its marker; at
        once if nothing does."""
        if peer in self.peers:
            self.mark(peer, callback)
        else:
            callback()

    def first(self, peer: bytes) -> Any:
        """The reply of that peer that must leave first."""
        return self.peers[peer].items[0][0]

    def remove_first(self, peer: bytes) -> None:
        """Drop the first item: it has left, or never will."""
        queue = self.peers[peer]
        _, size, _ = queue.items.popleft()
        queue.bytes -= size
        self.bytes -= size
        self.count -= size > 0
        if not queue.items:
            del self.peers[peer]

    def drop(self, peer: bytes) -> list[Any]:
        """Give up all that waits for a peer; returns the items, oldest first."""
        dropped = []
        while peer in self.peers:
            dropped.append(self.first(peer))
            self.remove_first(peer)
        return dropped

    def discard(self, peer: bytes, matches: Callable[[Any], bool]) -> list[Any]:
        """Give up what waits for a peer and matches; markers stay. Returns the items, oldest
        first."""
        queue = self.peers[peer]
        kept: deque[tuple[Any, int, float]] = deque()
        gone = []
        for entry in queue.items:
            item, size, _ = entry
            if size and matches(item):
                gone.append(item)
                queue.bytes -= size
                self.bytes -= size
                self.count -= 1
            else:
                kept.append(entry)
        queue.items = kept
        if not kept:
            del self.peers[peer]
        return gone

    def expire(self, parked_before: float) -> Iterator[Any]:
        """Give up what has waited since that time or longer; yields the items."""
        for peer in list(self.peers):
            while peer in self.peers and self.peers[peer].items[0][2] <= parked_before:
                item = self.first(peer)
                self.remove_first(peer)
                yield item

    def later(self, peer: bytes) -> None:
        """Put a peer, if something waits for it, behind all others in ``peers``: it has had its
        turn."""
        if peer in self.peers:
            self.peers[peer] = self.peers.pop(peer)

    def oldest(self) -> float | None:
        """When the reply that has waited longest was parked, or None."""
        return min((queue.items[0][2] for queue in self.peers.values()), default=None)


class Queue:
    """The replies that wait for one peer: (item, size, parked at), and the sum of the sizes; a
    marker's size is 0."""

    __slots__ = ("bytes", "items")

    def __init__(self) -> None:
        self.items: deque[tuple[Any, int, float]] = deque()
        self.bytes = 0
