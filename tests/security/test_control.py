"""Who is let in, and who is not: a real server, real clients, and no handler for whoever has no
right to one."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.green
from key_pairs import KeyPairs, silent
from knocking import Serve, ask, causes, who

from green_router import Access


def test_a_key_in_the_directory_says_who_it_is(serve: Serve, keys: KeyPairs) -> None:
    alice, bob = keys.add("alice"), keys.add("bob", user_id="robert", role="admin")
    server = serve(who, **keys.settings)
    assert ask(server, alice) == b"alice None"
    assert ask(server, bob) == b"robert admin"
    assert causes(server) == {}


def test_endpoints_of_one_server_have_policies_of_their_own(
    serve: Serve, keys: KeyPairs, tmp_path: Path
) -> None:
    """CURVE over TCP, PLAIN over another, and for whoever may write to a path nothing."""
    alice = keys.add("alice")
    server = serve(who, **keys.settings)
    server.bind(
        "tcp://127.0.0.1:*", access=Access(plain=lambda name, password, address: password == "x")
    )
    server.bind(f"ipc://{tmp_path}/s", access=Access(ipc_mode=0o660))
    server.bind(f"ipc://{tmp_path}/t")
    with zmq.green.Context() as context:

        def reply(endpoint: str, **options: Any) -> bytes | None:
            client = context.socket(zmq.DEALER)
            client.linger = 0
            for name, value in options.items():
                setattr(client, name, value)
            with client:
                client.connect(endpoint)
                client.send_multipart([b"", b"x"])
                return None if silent(client) else b""

        tcp, plain, path, other = server.endpoints
        joe = {"plain_username": b"joe", "plain_password": b"x"}
        assert [reply(tcp, **alice), reply(plain, **joe), reply(path), reply(other, **alice)] == [
            b""
        ] * 4
        assert [reply(tcp), reply(plain, **alice), reply(other)] == [None] * 3
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == 0o660
    assert server.stats()["received"] == 4


@pytest.mark.parametrize("mode", [0o600, 0o660, 0o666])
@pytest.mark.parametrize("umask", [0, 0o077])
def test_the_mode_of_a_path_does_not_depend_on_the_umask(
    serve: Serve, tmp_path: Path, mode: int, umask: int
) -> None:
    before = os.umask(umask)
    try:
        serve(who, f"ipc://{tmp_path}/s", ipc_mode=mode)
    finally:
        assert os.umask(before) == umask
    assert stat.S_IMODE(os.stat(tmp_path / "s").st_mode) == mode


def test_who_needs_no_security_pays_nothing(serve: Serve) -> None:
    server = serve(who)
    assert server.ask(b"x") == b"None None"
    assert server.stats()["auth_failures"] == {}
    assert server._router.socket.get(zmq.MECHANISM) == zmq.NULL
    assert server.access._zap is None
