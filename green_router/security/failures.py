"""Connections that were not let in, counted by cause.

Rules of this file
  1. Each is counted once: by libzmq's event where it was refused before ZAP was asked, by zap.py
     where that said no.
  2. Counts only: no address, no key, no credentials.
  3. What libzmq drops without a word (a greeting that is no ZMTP, or of a version that knows no
     security) is what is left of the connections: accepted, and neither let in nor refused nor
     young.

Source: zmq_socket_monitor(3); the codes of HANDSHAKE_FAILED_PROTOCOL are in zmq.h.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from time import monotonic

import zmq

CAUSES = (
    "address",
    "no_handshake",
    "protocol",
    "mechanism",
    "server_key",
    "unknown_key",
    "denied",
    "callback_error",
    "callback_timeout",
    "callback_answer",
    "overload",
)
(
    ADDRESS,
    NO_HANDSHAKE,
    PROTOCOL,
    MECHANISM,
    SERVER_KEY,
    UNKNOWN_KEY,
    DENIED,
    CALLBACK_ERROR,
    CALLBACK_TIMEOUT,
    CALLBACK_ANSWER,
    OVERLOAD,
) = CAUSES
"""In this order: an address or a user that may not connect; no handshake, or no end of it; a broken
one; NULL or PLAIN where CURVE is needed, or the reverse; a client that has the key of another
server; a key that is not authorized; what the callable has refused; it raised; it took too long;
what it returned was no answer; more questions at once than are asked."""

NO_ACCEPT = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.ECONNABORTED}
"""Why a connection that may come in could not be accepted."""

CRYPTOGRAPHIC, MISMATCH = 0x11000001, 0x11000002
"""ZMQ_PROTOCOL_ERROR_ZMTP_CRYPTOGRAPHIC, ZMQ_PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH."""


MANY = 10_000
"""Young connections from which on they are looked through, also where nobody asks for the
counts."""


class Failures:
    """The counts. For one thread.

    Args:
        handshake_timeout: seconds that a handshake may take.
    Attributes:
        listeners: event -> who wants to hear of it, for a monitor.
    """

    def __init__(self, handshake_timeout: float) -> None:
        self._counts = dict.fromkeys(CAUSES, 0)
        self._young_for = handshake_timeout
        self._accepted = self._settled = self._silent = 0
        self._open: dict[int, float] = {}
        self._recent: deque[tuple[int, float]] = deque()
        self._looked_through_at = MANY
        self.listeners: dict[int, Callable[[int], None]] = {
            zmq.EVENT_ACCEPTED: self._have_accepted,
            zmq.EVENT_DISCONNECTED: self._have_closed,
            zmq.EVENT_ACCEPT_FAILED: self._not_accepted,
            zmq.EVENT_HANDSHAKE_SUCCEEDED: self._have_settled,
            zmq.EVENT_HANDSHAKE_FAILED_AUTH: self._have_settled,
            zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL: self._no_handshake,
            zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL: self._protocol,
        }

    def count(self, cause: str) -> None:
        """Count one, of one of CAUSES."""
        self._counts[cause] += 1

    def snapshot(self) -> dict[str, int]:
        """Return how many, by cause."""
        now = monotonic()
        while self._recent and self._recent[0][1] < now - self._young_for:
            self._recent.popleft()
        young = sum(self._open.get(descriptor) == since for descriptor, since in self._recent)
        self._silent = max(self._silent, self._accepted - self._settled - young)
        return {**self._counts, PROTOCOL: self._counts[PROTOCOL] + self._silent}

    def _have_accepted(self, descriptor: int) -> None:
        now = monotonic()
        self._accepted += 1
        self._open[descriptor] = now
        self._recent.append((descriptor, now))
        if len(self._recent) > self._looked_through_at:
            self.snapshot()
            # Not again for each one more: in a flood of connections that would take all the time.
            self._looked_through_at = max(MANY, 2 * len(self._recent))

    def _have_closed(self, descriptor: int) -> None:
        self._open.pop(descriptor, None)

    def _not_accepted(self, number: int) -> None:
        if number not in NO_ACCEPT:
            self.count(ADDRESS)

    def _have_settled(self, _: int) -> None:
        self._settled += 1

    def _no_handshake(self, _: int) -> None:
        self._settled += 1
        self.count(NO_HANDSHAKE)

    def _protocol(self, code: int) -> None:
        self._settled += 1
        self.count({CRYPTOGRAPHIC: SERVER_KEY, MISMATCH: MECHANISM}.get(code, PROTOCOL))
