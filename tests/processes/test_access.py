"""Who may connect, where worker processes serve: both ways to spread the work."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
import zmq.green
from command_line import CommandLine
from key_pairs import KeyPairs, Watched, silent

from green_router.security.certificates import read
from green_router.testing import DEADLINE, PATIENCE, eventually

APPLICATION = """
import os
def handle_request(request):
    return f"{request.user_id} {request.role}".encode()

def plain(name, password, address):
    if password == "raise":
        raise ValueError(password)
    if password == "nonsense":
        return 5
    role = "of " + str(os.getpid() != SUPERVISOR)
    return password == "sesame" and {"user_id": name, "role": role}

SUPERVISOR = os.getppid()
"""

WAYS = pytest.mark.parametrize(
    "options",
    [(), ("--workers", "2"), ("--workers", "2", "--dispatch", "direct")],
    ids=["one process", "front", "direct"],
)


class Service:
    """A service that runs, and its clients."""

    def __init__(self, line: CommandLine, options: tuple[str, ...]) -> None:
        line.write("app.py", APPLICATION)
        self.line, self.context = line, zmq.green.Context()
        self.running = line.start(
            "serve", "app:handle_request", "--bind", "tcp://127.0.0.1:*", *options
        )
        self.endpoint = self.running.endpoint()
        self.pid = self.running.process.pid

    def client(self, connect: bool = True, **options: Any) -> zmq.Socket[Any]:
        """A client that has asked, or with ``connect=False`` one that has not connected."""
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        for name, value in options.items():
            setattr(socket, name, value)
        if connect:
            socket.connect(self.endpoint)
            socket.send_multipart([b"", b"who"])
        return socket

    def close(self) -> None:
        self.context.destroy(0)
        self.running.process.kill()
        self.running.process.wait()


@pytest.fixture
def keys(tmp_path: Path) -> KeyPairs:
    return KeyPairs(tmp_path)


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[..., Service]]:
    line = CommandLine(tmp_path)
    services: list[Service] = []

    def start(*options: str) -> Service:
        services.append(Service(line, options))
        return services[-1]

    yield start
    for each in services:
        each.close()
    line.close()


def reply(socket: zmq.Socket[Any]) -> bytes:
    with gevent.Timeout(DEADLINE):
        frames: list[bytes] = socket.recv_multipart()
    return frames[-1]


@WAYS
def test_keys_and_roles(
    service: Callable[..., Service], keys: KeyPairs, options: tuple[str, ...]
) -> None:
    alice = keys.add("alice", role="admin")
    server = service(
        "--curve-secret-key", keys.server, "--authorized-keys", str(keys.directory), *options
    )
    assert reply(server.client(**alice)) == b"alice admin"
    assert silent(server.client(**keys.stranger("mallory")))
    assert silent(server.client())


@WAYS
def test_a_callable_is_asked_where_the_application_is(
    service: Callable[..., Service], options: tuple[str, ...]
) -> None:
    server = service("--plain", "app:plain", *options)

    def joe(password: bytes) -> zmq.Socket[Any]:
        return server.client(plain_username=b"joe", plain_password=password)

    assert reply(joe(b"sesame")) == b"joe of True"
    assert all(silent(joe(password)) for password in (b"wrong", b"raise", b"nonsense"))
    assert "Traceback" not in "".join(server.running.err.lines)


@WAYS
def test_who_is_revoked_is_disconnected_at_hup(
    service: Callable[..., Service], keys: KeyPairs, options: tuple[str, ...]
) -> None:
    """Within a second, also where a worker serves that is about to be replaced."""
    pairs = [keys.add(name) for name in ("alice", "idle", "bob")]
    server = service(
        "--curve-secret-key", keys.server, "--authorized-keys", str(keys.directory), *options
    )
    leaves, idle, stays = (Watched(server.client(connect=False, **pair)) for pair in pairs)
    for client in (leaves, idle, stays):
        client.socket.connect(server.endpoint)
        eventually(partial(client.saw, zmq.EVENT_HANDSHAKE_SUCCEEDED))
    leaves.socket.send_multipart([b"", b"who"])
    stays.socket.send_multipart([b"", b"who"])
    assert (reply(leaves.socket), reply(stays.socket)) == (b"alice None", b"bob None")
    keys.remove("alice")
    keys.remove("idle")
    os.kill(server.pid, signal.SIGHUP)
    for client in (leaves, idle):
        eventually(partial(client.saw, zmq.EVENT_DISCONNECTED), PATIENCE)
        assert client.asks_in_vain()
    stays.socket.send_multipart([b"", b"who"])
    assert reply(stays.socket) == b"bob None"
    for client in (leaves, idle, stays):
        client.close()


def test_no_key_and_no_password_is_shown_anywhere(
    service: Callable[..., Service], keys: KeyPairs, tmp_path: Path
) -> None:
    """In no line of the log, at its lowest level, and in no error."""
    alice, stranger = keys.add("alice"), keys.stranger("mallory")
    server = service(
        "--curve-secret-key",
        keys.server,
        "--authorized-keys",
        str(keys.directory),
        "--log-level",
        "debug",
    )
    assert reply(server.client(**alice)) == b"alice None"
    assert silent(server.client(**stranger))
    (keys.directory / "broken.key").write_text(
        f'curve\n    public-key = "{alice["curve_secretkey"].decode()}x"\n'
    )
    os.kill(server.pid, signal.SIGHUP)
    server.running.err.until("broken.key: line 2 has no public-key")
    plain = service("--plain", "app:plain", "--log-level", "debug", "--workers", "1")
    assert all(
        silent(plain.client(plain_username=b"joe", plain_password=password))
        for password in (b"hunter2", b"raise")
    )
    shown = ""
    for each in (server, plain):
        each.running.process.terminate()
        each.running.process.wait()
        shown += "\n".join([*each.running.err.rest(), *each.running.out.rest()])
    own = read(keys.server)
    assert own.secret is not None
    secrets = [
        own.secret.reveal(),
        alice["curve_secretkey"],
        stranger["curve_secretkey"],
        b"hunter2",
    ]
    for name, value in (
        ("CURVE_SECRET_KEY", own.secret.reveal().decode()),
        ("CURVE_SECRET_KEY", "/no/such"),
    ):
        line = server.line
        line.env = line.env | {
            f"GREEN_ROUTER_{name}": value,
            "GREEN_ROUTER_AUTHORIZED_KEYS": str(keys.directory),
        }
        for arguments in (
            ("serve", "app:handle_request"),
            ("serve", "app:handle_request", "--check"),
        ):
            ended = line.run(*arguments)
            assert ended.returncode == 2
            shown += (ended.stdout + ended.stderr).decode()
    assert "alice" in str(keys.directory / "alice.key")
    for secret in secrets:
        assert secret.decode() not in shown
    assert "not shown" in shown


def test_check_looks_at_keys_and_says_what_others_can_reach(
    command_line: CommandLine, keys: KeyPairs
) -> None:
    command_line.write("app.py", APPLICATION)
    settings = (
        "serve",
        "app:handle_request",
        "--check",
        "--curve-secret-key",
        keys.server,
        "--authorized-keys",
        str(keys.directory),
    )
    keys.add("alice")
    fine = command_line.run(*settings)
    assert (fine.returncode, fine.stderr) == (0, b"")
    (keys.directory / "bob.key").write_text('curve\n    public-key = "abc"\n')
    broken = command_line.run(*settings)
    assert broken.returncode == 2
    assert b"bob.key: line 2 has no public-key" in broken.stderr
    public = command_line.run("serve", "app:handle_request", "--check", "--bind", "tcp://*:0")
    assert public.returncode == 0
    assert b"warning: tcp://*:0: whoever reaches this address can send requests" in public.stdout
    refused = command_line.run(
        "serve", "app:handle_request", "--check", "--bind", "tcp://*:0", "--require-curve"
    )
    assert refused.returncode == 3
