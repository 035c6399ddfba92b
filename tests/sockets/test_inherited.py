"""Listening sockets of other programs: what is none is refused before libzmq has it, which would
abort the process."""

from __future__ import annotations

import os
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import zmq

from green_router import BindError, Server
from green_router.sockets import inherited
from green_router.testing import RunningServer


@pytest.fixture
def descriptor(tmp_path: Path) -> Iterator[Callable[[str], int]]:
    """``descriptor(kind)``: one that the caller may hand on."""
    with ExitStack() as stack:

        def listening(family: int, address: Any) -> int:
            made = socket.socket(family)
            made.bind(address)
            made.listen(10)
            return made.detach()

        def other(made: Any) -> int:
            return os.dup(stack.enter_context(made).fileno())

        makers: dict[str, Callable[[], int]] = {
            "tcp": lambda: listening(socket.AF_INET, ("127.0.0.1", 0)),
            "tcp6": lambda: listening(socket.AF_INET6, ("::1", 0)),
            "ipc": lambda: listening(socket.AF_UNIX, str(tmp_path / "given")),
            "abstract": lambda: listening(socket.AF_UNIX, f"\0green_router test {os.getpid()}"),
            "silent": lambda: other(socket.socket()),
            "datagram": lambda: other(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)),
            "file": lambda: other(tempfile.TemporaryFile()),  # noqa: SIM115
            "closed": lambda: 1_000_000,
        }
        yield lambda kind: makers[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        "tcp",
        "tcp6",
        "ipc",
        pytest.param(
            "abstract",
            marks=pytest.mark.skipif(
                not sys.platform.startswith("linux"), reason="Linux has such names"
            ),
        ),
    ],
)
@pytest.mark.parametrize("way", ["bind", "adopt"])
def test_a_listening_socket_is_served(
    descriptor: Callable[[str], int],
    kind: str,
    way: str,
    tmp_path: Path,
    serve: Callable[..., RunningServer],
) -> None:
    fd = descriptor(kind)
    os.set_blocking(fd, True)
    if way == "bind":
        server = serve(lambda request: request.data, f"fd://{fd}")
    else:
        server = RunningServer(lambda request: request.data)
        server.adopt("tcp://x" if kind.startswith("tcp") else "ipc://x", fd)
        server.start()
    try:
        assert not os.get_blocking(fd)
        assert not os.get_inheritable(fd)
        assert server.endpoints[0].startswith(
            {
                "tcp": "tcp://127.0.0.1:",
                "tcp6": "tcp://[::1]:",
                "ipc": f"ipc://{tmp_path}/given",
                "abstract": "ipc://@green_router test",
            }[kind]
        )
        client = server.client(zmq.REQ, ipv6=kind == "tcp6")
        client.send(b"hello")
        assert client.recv() == b"hello"
    finally:
        server.close_clients()
        server.stop()
    if kind == "ipc":
        assert (tmp_path / "given").exists(), "it is who made it that removes it"


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("silent", "does not listen"),
        ("datagram", "of another kind"),
        ("file", "is no socket"),
        ("closed", "is not open"),
    ],
)
def test_what_is_no_listening_socket(
    descriptor: Callable[[str], int], kind: str, words: str
) -> None:
    fd = descriptor(kind)
    server = Server(lambda request: b"x")
    with pytest.raises(BindError, match=words):
        server.adopt("tcp://x", fd)
    server.bind(f"fd://{fd}")
    with pytest.raises(BindError, match=words):
        server.start()
    if kind != "closed":
        os.close(fd)  # it is still the caller's


def test_another_transport_than_was_said(descriptor: Callable[[str], int]) -> None:
    for kind, said, words in (
        ("tcp", "ipc://x", "a socket of tcp, not of ipc"),
        ("ipc", "tcp://x", "a socket of ipc, not of tcp"),
    ):
        fd = descriptor(kind)
        with pytest.raises(BindError, match=words):
            Server(lambda request: b"x").adopt(said, fd)
        os.close(fd)


@pytest.mark.parametrize("value", [None, True, "3", 3.0, -1, 2**70])
def test_what_is_no_descriptor(value: Any) -> None:
    with pytest.raises(BindError, match="descriptor"):
        Server(lambda request: b"x").adopt("tcp://x", value)


def test_one_that_is_given_twice(descriptor: Callable[[str], int]) -> None:
    fd = descriptor("tcp")
    server = Server(lambda request: b"x")
    server.bind(f"fd://{fd}", f"fd://{fd}")
    with pytest.raises(BindError, match="is given twice"):
        server.start()


def test_a_name_is_looked_up_as_systemd_passes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def passes(pid: int, names: str, count: int = 3) -> None:
        for name, value in {"FDS": count, "PID": pid, "FDNAMES": names}.items():
            monkeypatch.setenv(f"LISTEN_{name}", str(value))

    def words(endpoint: str) -> str:
        with pytest.raises(BindError) as caught:
            inherited.descriptor_of(endpoint)
        return caught.value.reason

    assert inherited.descriptor_of("fd://7") == 7
    assert "LISTEN_FDS say none" in words("fd://web")
    assert "say which one" in words("fd://")
    passes(os.getpid(), "web:admin:web")
    assert inherited.passed() == {3: "web", 4: "admin", 5: "web"}
    assert inherited.descriptor_of("fd://admin") == 4
    assert words("fd://web") == "2 descriptors have this name; write fd://3, fd://5"
    assert words("fd://other") == "no descriptor of this name was passed; there are web, admin, web"
    passes(1, "web")
    assert inherited.passed() == {}
    assert "for process 1" in words("fd://web")
    passes(os.getpid(), "web", 2)
    assert inherited.passed() == {3: "web", 4: ""}
    monkeypatch.setenv("LISTEN_FDS", "many")
    assert inherited.passed() == {}
