"""Endpoints are checked before anything is bound, and each error says what to write instead."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest
import zmq

from green_router import BindError
from green_router.sockets.endpoints import (
    MAX_IPC_PATH_BYTES,
    cannot_bind,
    check_connectable,
    check_ipc_path,
    check_text,
    check_type,
    host_and_port,
)


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        (b"tcp://*:1", "decode them"),
        (Path("/tmp/x"), "write ipc:///tmp/x"),
        (5555, "write tcp://127.0.0.1:5555 for a port"),
        (["tcp://*:1"], "give each one for itself"),
        (True, "this is bool"),
        (None, "this is NoneType"),
    ],
)
def test_what_is_no_text(value: object, advice: str) -> None:
    with pytest.raises(BindError, match=advice):
        check_type(value)


@pytest.mark.parametrize("text", ["ipc:///tmp/a\0b", "ipc:///tmp/\udc80"])
def test_what_libzmq_cannot_have(text: str) -> None:
    with pytest.raises(BindError):
        check_text(text)


@pytest.mark.parametrize(
    ("endpoint", "parts"),
    [
        ("tcp://127.0.0.1:5555", ("127.0.0.1", "5555")),
        ("tcp://*:*", ("*", "*")),
        ("tcp://[::1]:0", ("[::1]", "0")),
        ("tcp://eth0:65535", ("eth0", "65535")),
        ("tcp://eth0;192.168.1.1:5555", ("eth0;192.168.1.1", "5555")),
    ],
)
def test_a_host_and_a_port(endpoint: str, parts: tuple[str, str]) -> None:
    assert host_and_port(endpoint) == parts


@pytest.mark.parametrize(
    ("endpoint", "advice"),
    [
        ("tcp://*", r"port is missing; write tcp://\*:5555"),
        ("tcp://host:", r"port is missing; write tcp://host:5555"),
        ("tcp://[::1]", r"port is missing; write tcp://\[::1\]:5555"),
        ("tcp://:5555", r"address is missing; write tcp://\*:5555"),
        ("tcp://*:70000", "'70000' is no port"),
        ("tcp://*:5570-5571", "'5570-5571' is no port"),
        ("tcp://*:007", "'007' is no port"),
        ("tcp://::1:5555", r"brackets, tcp://\[::1\]:5555"),
        ("tcp://*:1,tcp://*:2", "another endpoint in it"),
    ],
)
def test_what_libzmq_would_take_for_something_else(endpoint: str, advice: str) -> None:
    with pytest.raises(BindError, match=advice):
        host_and_port(endpoint)


@pytest.mark.parametrize("endpoint", ["tcp://broker:5556", "tcp://[::1]:1", "ipc:///tmp/x"])
def test_what_one_can_connect_to(endpoint: str) -> None:
    check_connectable(endpoint)


@pytest.mark.parametrize(
    "endpoint",
    ["tcp://*:5556", "tcp://broker:*", "tcp://broker:0", "ipc://", "ipc://*", "inproc://x", "x"],
)
def test_what_one_cannot_connect_to(endpoint: str) -> None:
    with pytest.raises(BindError, match="write tcp://broker:5556"):
        check_connectable(endpoint)


def test_a_path_is_left_to_who_has_it(tmp_path: Path) -> None:
    """And taken where a process that was killed has left it over."""
    path = str(tmp_path / "s")
    check_ipc_path(f"ipc://{path}", path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(path)
        listening.listen()
        with pytest.raises(BindError, match="another process serves this path"):
            check_ipc_path(f"ipc://{path}", path)
    check_ipc_path(f"ipc://{path}", path)
    (tmp_path / "file").touch()
    with pytest.raises(BindError, match="a file of another kind"):
        check_ipc_path("ipc://x", str(tmp_path / "file"))


def test_a_path_has_so_much_room_in_bytes() -> None:
    check_ipc_path("ipc://x", MAX_IPC_PATH_BYTES * "x")
    with pytest.raises(BindError, match="more than 107 bytes"):
        check_ipc_path("ipc://x", (MAX_IPC_PATH_BYTES // 2 + 1) * "\u00e9")


def test_what_the_kernel_says_is_told_with_what_to_do() -> None:
    in_use = cannot_bind("tcp://*:1", OSError(errno.EADDRINUSE, "in use"))
    assert (in_use.endpoint, in_use.errno) == ("tcp://*:1", errno.EADDRINUSE)
    assert "choose another port" in str(in_use)
    assert "write tcp://host:port" in str(cannot_bind("5555", zmq.ZMQError(errno.EADDRINUSE)))
    assert zmq.strerror(errno.EFAULT) in str(cannot_bind("tcp://*:1", OSError(errno.EFAULT, "")))
