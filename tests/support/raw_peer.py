"""A peer that speaks ZMTP by hand, over a socket that a test has whole: to break off wherever it
likes.

Source: RFC 23 (ZMTP 3.0), NULL mechanism.
"""

from __future__ import annotations

import socket
import struct

from green_router.testing import DEADLINE

SIGNATURE = b"\xff" + bytes(8) + b"\x7f"
GREETING = SIGNATURE + bytes([3, 0]) + b"NULL".ljust(20, b"\0") + bytes(1) + bytes(31)


def connected(address: tuple[str, int]) -> socket.socket:
    """A TCP connection that has said nothing."""
    peer = socket.create_connection(address, DEADLINE)
    peer.settimeout(DEADLINE)
    return peer


def frame(body: bytes, more: bool = False, command: bool = False) -> bytes:
    """One frame as it is on the wire."""
    flags = more | (len(body) > 255) << 1 | command << 2
    return (
        bytes([flags])
        + (struct.pack(">Q", len(body)) if len(body) > 255 else bytes([len(body)]))
        + body
    )


def ready(routing_id: bytes = b"") -> bytes:
    """The READY command of a DEALER."""

    def property_(name: bytes, value: bytes) -> bytes:
        return bytes([len(name)]) + name + struct.pack(">I", len(value)) + value

    return frame(
        b"\x05READY" + property_(b"Socket-Type", b"DEALER") + property_(b"Identity", routing_id),
        command=True,
    )


def receive(peer: socket.socket, size: int) -> bytes:
    got = b""
    while len(got) < size:
        chunk = peer.recv(size - len(got))
        assert chunk, "the server has closed the connection"
        got += chunk
    return got


def receive_frame(peer: socket.socket) -> bytes:
    flags = receive(peer, 1)[0]
    size = struct.unpack(">Q", receive(peer, 8))[0] if flags & 2 else receive(peer, 1)[0]
    return receive(peer, size)


def dealer(address: tuple[str, int], routing_id: bytes = b"") -> socket.socket:
    """A connection after its handshake."""
    peer = connected(address)
    peer.sendall(GREETING)
    receive(peer, 64)
    peer.sendall(ready(routing_id))
    assert receive_frame(peer).startswith(b"\x05READY")
    return peer


def message(*frames: bytes) -> bytes:
    """A message as it is on the wire."""
    return b"".join(
        frame(body, more=position < len(frames)) for position, body in enumerate(frames, 1)
    )


def reset(peer: socket.socket) -> None:
    """Close with RST."""
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
