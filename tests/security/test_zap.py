"""Who is asked about whoever knocks, and what is made of the answer."""

from __future__ import annotations

import os
import socket as sockets
import stat
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
import zmq.green
from key_pairs import KeyPairs, silent
from knocking import Options, Serve, ask, causes, knock, who

from green_router import StateError
from green_router.testing import eventually


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (True, b"joe None"),
        ("Joe", b"Joe None"),
        ({"user_id": "joe"}, b"joe None"),
        ({"role": "r"}, b"joe r"),
        (False, "denied"),
        (None, "denied"),
        (1, "callback_answer"),
        ("", "callback_answer"),
        ({"name": "x"}, "callback_answer"),
        ({"role": 5}, "callback_answer"),
        ([b"x"], "callback_answer"),
        ({"user_id": "x" * 256}, "callback_answer"),
        (KeyError("hunter2"), "callback_error"),
    ],
)
def test_a_callable_says_who_may_come_in(
    serve: Serve, answer: Any, told: bytes | str, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[tuple[str, ...]] = []

    def plain(*words: str) -> Any:
        asked.append(words)
        if isinstance(answer, Exception):
            raise answer
        return answer

    server = serve(who, plain=plain, handshake_timeout=60)
    client = {"plain_username": b"joe", "plain_password": b"hunter2"}
    if isinstance(told, bytes):
        assert ask(server, client) == told
    else:
        knock(server, client)
        assert eventually(lambda: causes(server)) == {told: 1}
        assert server.stats()["received"] == 0
    assert asked == [("joe", "hunter2", "127.0.0.1")]
    assert "hunter2" not in caplog.text


def test_a_callable_that_waits_delays_nobody_else(serve: Serve, keys: KeyPairs) -> None:
    """Forty clients are asked about at once; one of them for ever, and it does not come in."""
    alice, stuck = keys.add("alice"), keys.stranger("stuck")
    together: set[str] = set()
    all_there = gevent.event.Event()

    def authorized(key: str, address: str) -> Any:
        if key == stuck["curve_publickey"].decode():
            gevent.sleep(1000)
        together.add(key)
        if len(together) == 40:
            all_there.set()
        all_there.wait(20)
        return {"user_id": "x", "role": None}

    server = serve(
        who, curve_secret_key=keys.server, authorized_keys=authorized, handshake_timeout=20
    )
    knock(server, stuck)
    strangers = [keys.stranger(f"c{number}") for number in range(39)]
    asking = [gevent.spawn(ask, server, options) for options in [alice, *strangers]]
    gevent.joinall(asking, raise_error=True)
    assert {greenlet.value for greenlet in asking} == {b"x None"}


def test_a_callable_that_hangs_is_not_waited_for(serve: Serve, keys: KeyPairs) -> None:
    asked: list[str] = []

    def authorized(key: str, address: str) -> bool:
        asked.append(key)
        if len(asked) == 1:
            gevent.sleep(1000)
        return True

    server = serve(
        who, curve_secret_key=keys.server, authorized_keys=authorized, handshake_timeout=0.3
    )
    client = keys.stranger("late")
    reply = ask(server, client)  # it has come again: 300 is no refusal for good
    assert reply == client["curve_publickey"] + b" None"
    assert causes(server)["callback_timeout"] == 1
    assert set(asked) == {client["curve_publickey"].decode()}


def test_any_key_is_let_in_where_that_is_said(serve: Serve, keys: KeyPairs) -> None:
    stranger = keys.stranger("anybody")
    server = serve(who, curve_secret_key=Path(keys.server), authorized_keys="*")
    assert ask(server, stranger) == stranger["curve_publickey"] + b" None"


def test_an_address_that_may_not_connect_is_refused_before_any_handshake(serve: Serve) -> None:
    server = serve(who, allow_addresses=["10.0.0.0/8", "::1"])
    assert silent(knock(server, {}))
    eventually(lambda: causes(server).get("address"))
    assert server.stats()["received"] == 0


@pytest.mark.parametrize("networks", [["127.0.0.0/8"], ["10.0.0.0/8", "127.0.0.1"]])
def test_an_address_that_may_connect(serve: Serve, networks: list[str]) -> None:
    assert serve(who, allow_addresses=networks).ask(b"x") == b"None None"


def ipv6() -> bool:
    try:
        with sockets.socket(sockets.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


@pytest.mark.skipif(not ipv6(), reason="needs IPv6")
@pytest.mark.parametrize(
    ("networks", "host", "let_in"),
    [
        (["127.0.0.0/8"], "127.0.0.1", True),
        (["::1"], "[::1]", True),
        (["10.0.0.0/8"], "127.0.0.1", False),
        (["::1"], "127.0.0.1", False),
    ],
)
def test_addresses_at_a_wildcard_of_both_families(
    serve: Serve, networks: list[str], host: str, let_in: bool
) -> None:
    """An IPv4 peer of an IPv6 socket is ``::ffff:127.0.0.1``."""
    server = serve(who, "tcp://[::]:0", allow_addresses=networks)
    with zmq.green.Context() as context, context.socket(zmq.DEALER) as client:
        client.linger, client.ipv6 = 0, True
        client.connect(f"tcp://{host}:{server.endpoints[0].rpartition(':')[2]}")
        client.send_multipart([b"", b"x"])
        assert silent(client) is not let_in


@pytest.mark.parametrize(
    ("access", "let_in"),
    [
        ({}, True),
        ({"allow_users": [os.getuid()]}, True),
        ({"allow_users": [str(os.getuid() + 1)]}, False),
        ({"allow_groups": [os.getgid()]}, True),
        ({"allow_groups": [os.getgid() + 1]}, False),
    ],
)
def test_users_of_an_ipc_path(serve: Serve, tmp_path: Path, access: Options, let_in: bool) -> None:
    path = tmp_path / "s"
    server = serve(who, f"ipc://{path}", **access)
    assert stat.S_IMODE(path.stat().st_mode) == (0o666 if access else 0o600)
    assert silent(knock(server, {})) is not let_in
    assert bool(causes(server)) is not let_in


def test_another_zap_handler_in_the_context_is_an_error(serve: Serve, keys: KeyPairs) -> None:
    with zmq.green.Context() as context, context.socket(zmq.REP) as other:
        other.bind("inproc://zeromq.zap.01")
        with pytest.raises(StateError, match="has a ZAP handler"):
            serve(who, context=context, **keys.settings)
