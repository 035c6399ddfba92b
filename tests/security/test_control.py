"""Who is let in, and who is not: a real server, real clients, and no handler for whoever has no
right to one."""

from __future__ import annotations

import os
import socket as sockets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
import zmq.green
from key_pairs import KeyPairs, silent

from green_router import Access, BindError, ConfigError, Request, Server, StateError
from green_router.security.policy import is_public
from green_router.testing import RunningServer, eventually

Serve = Callable[..., RunningServer]
Options = dict[str, Any]


def who(request: Request) -> bytes:
    return f"{request.user_id} {request.role}".encode()


def ask(server: RunningServer, options: Options) -> bytes:
    client = server.client(zmq.REQ, **options)
    client.send(b"who")
    reply: bytes = client.recv()
    return reply


def knock(server: RunningServer, options: Options) -> zmq.Socket[Any]:
    """A client that will not be let in."""
    client = server.client(zmq.DEALER, reconnect_ivl=60_000, **options)
    client.send_multipart([b"", b"let me in"])
    return client


def causes(server: Server) -> dict[str, int]:
    return {cause: times for cause, times in server.stats()["auth_failures"].items() if times}


def test_a_key_in_the_directory_says_who_it_is(serve: Serve, keys: KeyPairs) -> None:
    alice, bob = keys.add("alice"), keys.add("bob", user_id="robert", role="admin")
    server = serve(who, **keys.settings)
    assert ask(server, alice) == b"alice None"
    assert ask(server, bob) == b"robert admin"
    assert causes(server) == {}


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


def test_endpoints_with_fewer_addresses_come_first(serve: Serve) -> None:
    server = serve(who, allow_addresses=["127.0.0.1"])
    server.bind("tcp://127.0.0.1:*", access=Access(allow_addresses=["127.0.0.1", "10.0.0.0/8"]))
    server.bind("tcp://127.0.0.1:*", access=Access())
    with pytest.raises(BindError, match="fewer addresses first"):
        server.bind("tcp://127.0.0.1:*", access=Access(allow_addresses=["10.0.0.0/8"]))


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


@pytest.mark.parametrize(
    ("endpoint", "public"),
    [
        ("tcp://127.0.0.1:5555", False),
        ("tcp://127.9.9.9:1", False),
        ("tcp://localhost:1", False),
        ("tcp://[::1]:1", False),
        ("tcp://[::ffff:127.0.0.1]:1", False),
        ("ipc:///tmp/x", False),
        ("inproc://x", False),
        ("tcp://lo:1", False),
        ("tcp://*:5555", True),
        ("tcp://0.0.0.0:1", True),
        ("tcp://[::]:1", True),
        ("tcp://10.0.0.1:1", True),
        ("tcp://eth0:1", True),
        ("tcp://[fe80::1%eth0]:1", True),
        ("tcp://example.org:1", True),
    ],
)
def test_what_others_can_reach(endpoint: str, public: bool) -> None:
    assert is_public(endpoint) is public


def test_a_public_address_without_curve_is_told_of(
    serve: Serve, keys: KeyPairs, caplog: pytest.LogCaptureFixture
) -> None:
    serve(who, "tcp://0.0.0.0:0")
    assert (
        len(
            [
                record
                for record in caplog.records
                if "whoever reaches this address" in record.message
            ]
        )
        == 1
    )
    caplog.clear()
    serve(who, "tcp://0.0.0.0:0", **keys.settings)
    serve(who, "tcp://127.0.0.1:0")
    assert "whoever" not in caplog.text
    with pytest.raises(BindError, match="require_curve is set"):
        serve(who, "tcp://*:0", require_curve=True)
    serve(who, "tcp://*:0", require_curve=True, **keys.settings)


def test_an_old_libzmq_serves_nothing_public(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 3, 2))
    serve(who)
    with pytest.raises(BindError, match="CVE-2020-15166"):
        serve(who, "tcp://*:0")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"curve_secret_key": "/no/such"}, "authorized_keys = None: must be given"),
        ({"authorized_keys": "/tmp"}, "curve_secret_key = None: must be given"),
        (
            {"curve_secret_key": "/no/such", "authorized_keys": "*"},
            "a secret key file: it cannot be read",
        ),
        ({"curve_secret_key": "OWN", "authorized_keys": "/no/such"}, "no such directory"),
        ({"curve_secret_key": "OWN", "authorized_keys": "*", "plain": print}, "plain = "),
        ({"allow_users": ["no such user"]}, "allow_users = 'no such user': must be known"),
        ({"allow_groups": ["no such group"]}, "allow_groups = 'no such group': must be known"),
    ],
)
def test_what_cannot_hold_is_told_when_the_server_is_made(
    keys: KeyPairs, settings: Options, words: str
) -> None:
    settings = {name: keys.server if value == "OWN" else value for name, value in settings.items()}
    with pytest.raises(ConfigError, match=words):
        Server(who, **settings)


def test_another_zap_handler_in_the_context_is_an_error(serve: Serve, keys: KeyPairs) -> None:
    with zmq.green.Context() as context, context.socket(zmq.REP) as other:
        other.bind("inproc://zeromq.zap.01")
        with pytest.raises(StateError, match="has a ZAP handler"):
            serve(who, context=context, **keys.settings)


def test_a_broken_key_file_keeps_the_others_in(
    serve: Serve, keys: KeyPairs, caplog: pytest.LogCaptureFixture
) -> None:
    alice = keys.add("alice")
    (keys.directory / "bob.key").write_text('curve\n    public-key = "abc"\n')
    server = serve(who, **keys.settings)
    assert ask(server, alice) == b"alice None"
    assert "bob.key: line 2 has no public-key" in caplog.text


def test_who_needs_no_security_pays_nothing(serve: Serve) -> None:
    server = serve(who)
    assert server.ask(b"x") == b"None None"
    assert server.stats()["auth_failures"] == {}
    assert server._router.socket.get(zmq.MECHANISM) == zmq.NULL
    assert server.access._zap is None
