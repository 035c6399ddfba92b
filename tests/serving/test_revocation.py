"""Revoked means out: who loses his key is disconnected, and nothing that he has asked is
handled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
import zmq.green
from gevent.event import Event
from key_pairs import KeyPairs, Watched, reply_of

from green_router.testing import DEADLINE, RunningServer, eventually, settled

Serve = Callable[..., RunningServer]

SUCCEEDED, DISCONNECTED = int(zmq.EVENT_HANDSHAKE_SUCCEEDED), int(zmq.EVENT_DISCONNECTED)


@pytest.fixture
def keys(tmp_path: Path) -> KeyPairs:
    """A server's key pair, and an empty directory of authorized ones."""
    return KeyPairs(tmp_path)


@pytest.fixture
def connect() -> Iterator[Callable[..., Watched]]:
    """``connect(server, options)``: a client, not closed before the test ends, that has said
    nothing."""
    context = zmq.green.Context()
    made: list[Watched] = []

    def start(server: RunningServer, options: dict[str, Any]) -> Watched:
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        for name, value in options.items():
            setattr(socket, name, value)
        made.append(Watched(socket))
        socket.connect(server.endpoints[0])
        eventually(lambda: made[-1].saw(SUCCEEDED))
        return made[-1]

    yield start
    for each in made:
        each.close()
    context.destroy(0)


def ask(client: Watched, what: bytes = b"who") -> bytes | None:
    client.socket.send_multipart([b"", what])
    return reply_of(client.socket, DEADLINE)


def who(request: Any) -> bytes:
    return f"{request.user_id} {request.role}".encode()


@pytest.mark.parametrize("spoken", [True, False])
def test_who_is_revoked_is_disconnected_and_nobody_else(
    serve: Serve, keys: KeyPairs, connect: Callable[..., Watched], spoken: bool
) -> None:
    alice, bob = keys.add("alice"), keys.add("bob")
    server = serve(who, **keys.settings)
    leaves, stays = connect(server, alice), connect(server, bob)
    assert ask(stays) == b"bob None"
    assert not spoken or ask(leaves) == b"alice None"
    keys.remove("alice")
    server.access.reload()
    eventually(lambda: leaves.saw(DISCONNECTED), 1.0 if DEADLINE == 10.0 else DEADLINE)
    assert leaves.asks_in_vain()
    assert eventually(lambda: server.stats()["auth_failures"]["unknown_key"]) == 1
    assert ask(stays) == b"bob None"
    assert not stays.saw(DISCONNECTED)


@pytest.mark.parametrize("max_in_flight", [5, 10_000])
def test_what_the_revoked_have_asked_is_not_handled(
    serve: Serve, keys: KeyPairs, connect: Callable[..., Watched], max_in_flight: int
) -> None:
    """Neither what waits for a handler, nor what libzmq has taken from them."""
    go_on, seen = Event(), []

    def handle(request: Any) -> bytes:
        seen.append(request.user_id)
        go_on.wait()
        return who(request)

    alice, bob = keys.add("alice"), keys.add("bob")
    server = serve(handle, concurrency=1, max_in_flight=max_in_flight, **keys.settings)
    leaves, stays = connect(server, alice), connect(server, bob)
    stays.socket.send_multipart([b"", b"first"])
    eventually(lambda: seen)
    for _ in range(50):
        leaves.socket.send_multipart([b"", b"x"])
    ahead = 0 if max_in_flight > 50 else 2  # one for each connection
    eventually(lambda: server.stats()["waiting"] == min(50, max_in_flight - 1) + ahead)
    keys.remove("alice")
    server.access.reload()
    eventually(lambda: leaves.saw(DISCONNECTED))
    go_on.set()
    assert reply_of(stays.socket, DEADLINE) == b"bob None"
    assert ask(stays) == b"bob None"
    assert seen == ["bob", "bob"]
    eventually(lambda: settled(server, "peer_gone") == server.stats()["received"] - 2)
    assert settled(server, "answered") == 2
    assert seen == ["bob", "bob"]


def test_who_gets_another_role_comes_back_with_it(
    serve: Serve, keys: KeyPairs, connect: Callable[..., Watched]
) -> None:
    alice = keys.add("alice")
    server = serve(who, **keys.settings)
    client = connect(server, alice)
    assert ask(client) == b"alice None"
    path = keys.directory / "alice.key"
    path.write_text(path.read_text().replace("metadata\n", 'metadata\n    role = "guest"\n'))
    server.access.reload()
    eventually(lambda: client.saw(DISCONNECTED))
    eventually(lambda: client.events.clear() or client.saw(SUCCEEDED))
    assert ask(client) == b"alice guest"


def test_reading_keys_again_under_load_loses_nothing(
    serve: Serve, keys: KeyPairs, connect: Callable[..., Watched]
) -> None:
    bob = keys.add("bob")
    server = serve(who, **keys.settings)
    client = connect(server, bob)
    for number in range(20):
        keys.add(f"guest{number}")
        client.socket.send_multipart([b"", b"x"])
        server.access.reload()
        client.socket.send_multipart([b"", b"x"])
        keys.remove(f"guest{number}")
        server.access.reload()
        gevent.sleep(0)
    assert [reply_of(client.socket, DEADLINE) for _ in range(40)] == 40 * [b"bob None"]
    assert not client.saw(DISCONNECTED)


def test_messages_are_looked_at_only_for_a_while(
    serve: Serve, keys: KeyPairs, connect: Callable[..., Watched], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("green_router.serving.revocation.LOOK_FOR", 0.0)
    alice, bob = keys.add("alice"), keys.add("bob")
    server = serve(who, **keys.settings)
    leaves, stays = connect(server, alice), connect(server, bob)
    revocation = server._owner.peers._revocation
    assert ask(leaves) == b"alice None"
    keys.remove("alice")
    server.access.reload()
    assert revocation._active
    eventually(lambda: leaves.saw(DISCONNECTED))
    eventually(lambda: ask(stays) == b"bob None" and not revocation._active)
    assert not revocation._dropped
