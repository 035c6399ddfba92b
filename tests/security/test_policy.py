"""What others can reach, and what a policy that cannot hold is told."""

from __future__ import annotations

import pytest
import zmq
import zmq.green
from key_pairs import KeyPairs
from knocking import Options, Serve, ask, who

from green_router import Access, BindError, ConfigError, Server
from green_router.security.policy import is_public


def test_endpoints_with_fewer_addresses_come_first(serve: Serve) -> None:
    server = serve(who, allow_addresses=["127.0.0.1"])
    server.bind("tcp://127.0.0.1:*", access=Access(allow_addresses=["127.0.0.1", "10.0.0.0/8"]))
    server.bind("tcp://127.0.0.1:*", access=Access())
    with pytest.raises(BindError, match="fewer addresses first"):
        server.bind("tcp://127.0.0.1:*", access=Access(allow_addresses=["10.0.0.0/8"]))


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


def test_a_broken_key_file_keeps_the_others_in(
    serve: Serve, keys: KeyPairs, caplog: pytest.LogCaptureFixture
) -> None:
    alice = keys.add("alice")
    (keys.directory / "bob.key").write_text('curve\n    public-key = "abc"\n')
    server = serve(who, **keys.settings)
    assert ask(server, alice) == b"alice None"
    assert "bob.key: line 2 has no public-key" in caplog.text
