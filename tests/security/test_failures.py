"""Whoever is not let in is counted by the cause, also where no handshake came about."""

from __future__ import annotations

import socket as sockets
from collections.abc import Callable
from typing import Any

import pytest
import zmq
import zmq.green
from key_pairs import KeyPairs
from knocking import Options, Serve, ask, causes, knock, who

from green_router import Request
from green_router.security.failures import Failures
from green_router.testing import eventually

CLIENTS: dict[str, tuple[Callable[[Any], Options], str]] = {
    "NULL": (lambda keys: {}, "mechanism"),
    "PLAIN": (lambda keys: {"plain_username": b"alice", "plain_password": b"secret"}, "mechanism"),
    "unknown key": (lambda keys: keys.stranger("mallory"), "unknown_key"),
    "wrong server key": (
        lambda keys: {**keys.stranger("carol"), "curve_serverkey": zmq.curve_keypair()[0]},
        "server_key",
    ),
}


@pytest.mark.parametrize("kind", CLIENTS)
def test_who_has_no_right_reaches_no_handler(serve: Serve, keys: KeyPairs, kind: str) -> None:
    seen: list[Request] = []
    alice = keys.add("alice")
    server = serve(lambda request: seen.append(request) or who(request), **keys.settings)
    options, cause = CLIENTS[kind]
    knock(server, options(keys))
    # A client that sees for itself that it cannot get in may close before the server says so.
    expected = {cause, "no_handshake"} if cause == "mechanism" else {cause}
    eventually(lambda: causes(server))
    assert ask(server, alice) == b"alice None"
    assert len(seen) == 1
    assert set(causes(server)) <= expected


@pytest.mark.parametrize("mechanism", [b"NULL", b"PLAIN"])
def test_a_greeting_without_curve_is_counted_as_such(
    serve: Serve, keys: KeyPairs, mechanism: bytes
) -> None:
    server = serve(who, **keys.settings)
    with sockets.create_connection(server.endpoints[0].removeprefix("tcp://").split(":")) as raw:
        raw.sendall(b"\xff" + 8 * b"\0" + b"\x7f\3\0" + mechanism.ljust(20, b"\0") + 32 * b"\0")
        assert eventually(lambda: causes(server)) == {"mechanism": 1}


GREETINGS = {
    "ZMTP 1.0": b"\x01\x00\x03\x00x",
    "ZMTP 2.0": b"\xff\0\0\0\0\0\0\0\1\x7f\x01\x05\x00\x00",
    "no ZMTP": b"GET / HTTP/1.1\r\n\r\n",
}


@pytest.mark.parametrize("greeting", GREETINGS)
def test_no_older_protocol_is_let_in(serve: Serve, keys: KeyPairs, greeting: str) -> None:
    """Of a version without security, or none: it is dropped, whatever follows."""
    alice = keys.add("alice")
    server = serve(who, **keys.settings)
    with sockets.create_connection(server.endpoints[0].removeprefix("tcp://").split(":")) as raw:
        raw.sendall(GREETINGS[greeting])
        # And dropped: it is no handshake that goes on.
        eventually(lambda: causes(server).get("protocol"))
    assert ask(server, alice) == b"alice None"
    assert server.stats()["received"] == 1


def test_a_flood_of_young_connections_is_looked_through_when_it_has_doubled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    failures, passes = Failures(30.0), []
    snapshot = failures.snapshot
    monkeypatch.setattr(failures, "snapshot", lambda: passes.append(1) or snapshot())
    accepted = failures.listeners[zmq.EVENT_ACCEPTED]
    for descriptor in range(100_000):
        accepted(descriptor)
    assert len(passes) <= 4
