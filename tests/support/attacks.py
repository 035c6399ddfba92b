"""What strangers and enemies do to a port: each function does it once.

Rules of this file
  1. ``attack(address)`` returns the socket, for the caller to close, or None.
  2. It does not fail when the server hangs up: that is one of the right answers.
"""

from __future__ import annotations

import random
import socket
import ssl
from contextlib import suppress

from raw_peer import GREETING, SIGNATURE, connected, dealer, frame, message, ready, reset


def http(address):
    peer = connected(address)
    peer.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\nUser-Agent: curl/8\r\nAccept: */*\r\n\r\n")
    return peer


def tls_hello(address):
    peer = connected(address)
    peer.settimeout(0.05)
    context = ssl.create_default_context()
    with (
        context.wrap_socket(
            peer, server_hostname="localhost", do_handshake_on_connect=False
        ) as wrapped,
        suppress(OSError),
    ):
        wrapped.do_handshake()


def random_bytes(address):
    peer = connected(address)
    with suppress(OSError):
        peer.sendall(random.randbytes(2000))
    return peer


def greeting_then_random_bytes(address):
    peer = connected(address)
    with suppress(OSError):
        peer.sendall(GREETING + random.randbytes(2000))
    return peer


def ready_then_random_bytes(address):
    peer = dealer(address)
    with suppress(OSError):
        peer.sendall(random.randbytes(2000))
    return peer


def half_a_greeting(address):
    peer = connected(address)
    peer.sendall(SIGNATURE + b"\x03")
    return peer


def half_a_message(address):
    peer = dealer(address)
    peer.sendall(message(b"", b"echo " * 100)[:-50])
    return peer


def nothing_at_all(address):
    return connected(address)


def a_frame_above_the_limit(address):
    peer = dealer(address)
    with suppress(OSError):
        peer.sendall(frame(b"", more=True) + frame(b"x" * 200_000))
        assert peer.recv(1) == b""
    return peer


def a_frame_that_claims_to_be_huge(address):
    peer = dealer(address)
    with suppress(OSError):
        peer.sendall(b"\x02" + b"\x7f" + b"\xff" * 7 + b"x")
        assert peer.recv(1) == b""
    return peer


def ten_thousand_frames(address):
    peer = dealer(address)
    peer.sendall(message(*[b""] * 10_000))
    return peer


def a_port_scan(address):
    connected(address).close()


def a_port_scan_with_rst(address):
    reset(connected(address))


def a_message_without_an_end(address):
    """As many frames as the server takes, each with more to come."""
    peer = dealer(address)
    frames = frame(b"x" * 1000, more=True) * 1000
    with suppress(OSError):
        for _ in range(50):
            peer.sendall(frames)
    return peer


def a_message_of_a_million_frames(address):
    """Empty ones, and it does end."""
    peer = dealer(address)
    with suppress(OSError):
        peer.sendall(frame(b"", more=True) * 1_000_000 + frame(b""))
    return peer


def someone_in_a_hurry(address):
    peer = connected(address)
    peer.sendall(GREETING + ready(b"hurry") + message(b"", b"echo"))
    peer.shutdown(socket.SHUT_WR)
    return peer


def a_reset(address):
    peer = dealer(address)
    peer.sendall(message(b"", b"sleep 0.01"))
    reset(peer)


EVERY = (
    http,
    tls_hello,
    random_bytes,
    greeting_then_random_bytes,
    ready_then_random_bytes,
    half_a_greeting,
    half_a_message,
    nothing_at_all,
    a_frame_above_the_limit,
    a_frame_that_claims_to_be_huge,
    ten_thousand_frames,
    a_message_without_an_end,
    a_message_of_a_million_frames,
    a_port_scan,
    a_port_scan_with_rst,
    someone_in_a_hurry,
    a_reset,
)
