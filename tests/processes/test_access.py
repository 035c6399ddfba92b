"""Who may connect, where worker processes serve: both ways to spread the work."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
import zmq.green
from command_line import CommandLine
from key_pairs import KeyPairs, silent

from green_router.testing import DEADLINE

APPLICATION = """
import os
def handle_request(request):
    return f"{request.user_id} {request.role}".encode()

def plain(name, password, address):
    if password == "raise":
        raise ValueError(password)
    if password == "nonsense":
        return 5
    return password == "sesame" and {"user_id": name, "role": "of " + str(os.getpid() != SUPERVISOR)}

SUPERVISOR = os.getppid()
"""

WAYS = pytest.mark.parametrize("options", [(), ("--workers", "2"), ("--workers", "2", "--dispatch", "direct")],
                               ids=["one process", "front", "direct"])


class Service:
    """A service that runs, and its clients."""

    def __init__(self, line: CommandLine, options: tuple[str, ...]) -> None:
        line.write("app.py", APPLICATION)
        self.line, self.context = line, zmq.green.Context()
        self.running = line.start("serve", "app:handle_request", "--bind", "tcp://127.0.0.1:*", *options)
        self.endpoint = self.running.endpoint()
        self.pid = self.running.process.pid

    def client(self, **options: Any) -> zmq.Socket[Any]:
        socket = self.context.socket(zmq.DEALER)
        socket.linger = 0
        for name, value in options.items():
            setattr(socket, name, value)
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
def test_keys_and_roles(service: Callable[..., Service], keys: KeyPairs, options: tuple[str, ...]) -> None:
    alice = keys.add("alice", role="admin")
    server = service("--curve-secret-key", keys.server, "--authorized-keys", str(keys.directory), *options)
    assert reply(server.client(**alice)) == b"alice admin"
    assert silent(server.client(**keys.stranger("mallory")))
    assert silent(server.client())


@WAYS
def test_a_callable_is_asked_where_the_application_is(
        service: Callable[..., Service], options: tuple[str, ...]) -> None:
    server = service("--plain", "app:plain", *options)

    def joe(password: bytes) -> zmq.Socket[Any]:
        return server.client(plain_username=b"joe", plain_password=password)

    assert reply(joe(b"sesame")) == b"joe of True"
    assert all(silent(joe(password)) for password in (b"wrong", b"raise", b"nonsense"))
    assert "Traceback" not in "".join(server.running.err.lines)
