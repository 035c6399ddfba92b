"""Where an endpoint is: what libzmq makes of it, but no port that is not written; and what can be
told of a place."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import zmq

from green_router import BindError
from green_router.settings import Settings
from green_router.sockets.addresses import (
    IpcAddress,
    TcpAddress,
    has_place,
    place_of,
    refuse_second,
)
from green_router.sockets.context import make_context
from green_router.sockets.router import Router


@contextmanager
def routers() -> Iterator[Router]:
    """A ROUTER, as a service that serves its clients itself binds it."""
    with make_context(Settings()) as context:
        router = Router(context, Settings())
        try:
            yield router
        finally:
            router.close()


ADDRESSES = [
    "127.0.0.1",
    "*",
    "0.0.0.0",
    "localhost",
    "lo",
    "127.1",
    "[::1]",
    "[::]",
    "[*]",
    "[lo]",
    "[127.0.0.1]",
    "[::ffff:127.0.0.1]",
    "",
    " 127.0.0.1",
    "127.0.0.1 ",
    "a..b",
    "no.such.host.invalid",
    "no-such-interface",
    "192.0.2.1",
    "[::1",
    "::1]",
    "::1",
    "[]",
    "[fe80::1%lo]",
    "<broadcast>",
    "u@127.0.0.1",
    "127.0.0.1;127.0.0.1",
    300 * "a",
]


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("port", ["0", "*"])
def test_an_address_means_what_it_means_to_libzmq(address: str, port: str) -> None:
    """It is served at the same, or refused too."""
    endpoint = f"tcp://{address}:{port}"
    with routers() as router:
        try:
            meant = router.bind(endpoint)
        except BindError:
            with pytest.raises(BindError):
                place_of(endpoint).try_out(endpoint)
        else:
            place = place_of(endpoint)
            assert isinstance(place, TcpAddress)
            assert meant.rpartition(":")[0] == f"tcp://{place.host}"
            with place.bound(endpoint) as bound:
                assert bound.getsockname()[1] > 0


@pytest.mark.parametrize(
    ("port", "number"), [("0", 0), ("*", 0), ("1", 1), ("5555", 5555), ("65535", 65535)]
)
def test_a_port_is_a_number(port: str, number: int) -> None:
    place = place_of(f"tcp://127.0.0.1:{port}")
    assert place == TcpAddress("127.0.0.1", number)
    assert place.endpoint == f"tcp://127.0.0.1:{number}"


@pytest.mark.parametrize(
    "port",
    [
        "many",
        "70000",
        "65536",
        "-1",
        "+5556",
        " 5557",
        "5558 ",
        "5_559",
        "05560",
        "0x15b3",
        "00",
        "5568/",
        "5570-5571",
        "!",
        "4294972851",
        "\u0665\u0665\u0665\u0665",
    ],
)
def test_nothing_else_is_a_port(port: str) -> None:
    """libzmq would take most of these for other ones."""
    with pytest.raises(BindError) as caught:
        place_of(f"tcp://127.0.0.1:{port}")
    assert str(caught.value).endswith(
        f"{port!r} is no port; write a number from 1 to 65535, or * for any port"
    )


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        ("tcp://127.0.0.1", "the port is missing; write tcp://127.0.0.1:5555, or * for any port"),
        ("tcp://127.0.0.1:", "the port is missing; write tcp://127.0.0.1:5555,"),
        ("tcp://*", "the port is missing; write tcp://*:5555,"),
        ("tcp://[::1]", "the port is missing; write tcp://[::1]:5555,"),
        ("tcp://:", "the port is missing; write tcp://*:5555,"),
        ("tcp://:5555", "the address is missing; write tcp://*:5555 for all addresses"),
        ("tcp://:*", "the address is missing; write tcp://*:* for all addresses"),
        ("tcp://::1:5571", "'::1' is no address; one of IPv6 has brackets, tcp://[::1]:5571"),
        (
            "tcp://127.0.0.1:1,tcp://127.0.0.1:2",
            "there is another endpoint in it; give each one for itself",
        ),
        ("tcp://a..b:1", "this machine has no such address or interface"),
        ("tcp://\udcff:1", "libzmq needs UTF-8"),
        ("ipc:///tmp/\udcff", "libzmq needs UTF-8"),
        ("ipc:///tmp/\0", "there is a zero byte in it"),
        ("tcp://", "workers that serve clients themselves need tcp://address:port or ipc://path"),
        ("inproc://x", "workers that serve clients themselves need"),
        ("nonsense", "workers that serve clients themselves need"),
        ("ipc://", "workers that serve clients themselves need"),
        ("ipc://*", "workers that serve clients themselves need"),
        ("ipc://@", "workers that serve clients themselves need"),
    ],
)
def test_what_is_wrong_is_said(endpoint: str, words: str) -> None:
    with pytest.raises(BindError) as caught:
        place_of(endpoint)
    assert str(caught.value).startswith(f"cannot bind {endpoint}: {words}")
    assert has_place(endpoint) == ("themselves" not in words)


PAIRS = [
    ("tcp://127.0.0.1:{port}", "tcp://127.0.0.1:{port}", True),
    ("tcp://127.0.0.1:{port}", "tcp://127.0.0.2:{port}", False),
    ("tcp://localhost:{port}", "tcp://lo:{port}", True),
    ("tcp://*:{port}", "tcp://127.0.0.1:{port}", True),
    ("tcp://127.0.0.1:{port}", "tcp://0.0.0.0:{port}", True),
    ("tcp://127.0.0.1:{port}", "tcp://[::1]:{port}", False),
    ("tcp://127.0.0.1:{port}", "tcp://[::]:{port}", True),
    ("tcp://*:{port}", "tcp://[::1]:{port}", False),
    ("tcp://[*]:{port}", "tcp://*:{port}", True),
    ("tcp://[::ffff:127.0.0.1]:{port}", "tcp://127.0.0.1:{port}", True),
    ("tcp://127.0.0.1:0", "tcp://127.0.0.1:*", False),
    ("tcp://127.0.0.1:{port}", "tcp://127.0.0.1:*", False),
    ("ipc://{here}/s", "ipc://{here}/../{name}/s", True),
    ("ipc://{here}/s", "ipc://{here}/t", False),
    ("ipc://@{here}", "ipc://@{here}", True),
    ("ipc://@{here}", "ipc://{here}/@", False),
    ("tcp://127.0.0.1:{port}", "ipc://{here}/s", False),
]


@pytest.mark.parametrize(("first", "second", "one"), PAIRS)
def test_two_are_one_place_where_libzmq_cannot_bind_both(
    tmp_path: Path, first: str, second: str, one: bool
) -> None:
    if "localhost" in first and zmq.zmq_version_info() < (4, 3, 5):
        pytest.skip("libzmq binds no host names before 4.3.5")
    with routers() as router:
        paths = {"here": tmp_path, "name": tmp_path.name}
        port = router.bind(first.format(port="*", **paths)).rpartition(":")[2]
        first, second = (endpoint.format(port=port, **paths) for endpoint in (first, second))
        given = [(first, place_of(first))]
        if one:
            with pytest.raises(BindError):
                router.bind(second)
            what = (
                "it is given twice"
                if first == second
                else f"{first}, which is given too, has the same place"
            )
            with pytest.raises(BindError) as caught:
                refuse_second(second, place_of(second), given)
            assert str(caught.value) == f"cannot bind {second}: {what}; leave one out"
        else:
            router.bind(second)
            refuse_second(second, place_of(second), given)


def test_other_ports_are_other_places() -> None:
    refuse_second("tcp://*:1", TcpAddress("0.0.0.0", 1), [("tcp://*:2", TcpAddress("0.0.0.0", 2))])


def test_nobody_can_connect_to_what_is_bound() -> None:
    with place_of("tcp://127.0.0.1:0").bound("") as bound, socket.socket() as client:
        assert not bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        with pytest.raises(ConnectionRefusedError):
            client.connect(bound.getsockname())


def test_a_port_is_in_use_and_somebody_listens_or_not() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        for host, listening in (("127.0.0.1", False), ("0.0.0.0", True), ("127.0.0.1", True)):
            if host == "127.0.0.1" and listening:
                other.listen(1)
            place = TcpAddress(host, port)
            with pytest.raises(BindError, match="the address is in use"):
                place.try_out(place.endpoint)
            assert place.listening == listening


def test_who_lets_nobody_in_listens(tmp_path: Path) -> None:
    """His queue is full."""
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen(0)
        client.connect(path)
        place = IpcAddress(path)
        with pytest.raises(BindError, match="another process serves this path"):
            place.try_out(f"ipc://{path}")
        assert place.listening


def test_trying_a_path_touches_nothing(tmp_path: Path) -> None:
    """Nobody listens on what is there; but by the time that it was removed, somebody could."""
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    before = path.stat()
    for name in ("s", "new", f"@{tmp_path}"):
        IpcAddress(name if name.startswith("@") else str(tmp_path / name)).try_out("")
    assert path.stat().st_ino == before.st_ino
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("/no/such/directory/s", "no such directory"),
        ("file/s", "Not a directory"),
        ("file", "there is a file of another kind"),
        (108 * "s", "more than 107 bytes"),
        ("@" + 108 * "s", "AF_UNIX path too long"),
    ],
)
def test_a_path_that_cannot_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    with pytest.raises(BindError, match=words):
        IpcAddress(path).try_out(f"ipc://{path}")
