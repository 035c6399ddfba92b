"""Telling the service manager, which may not be there, and may not read."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
from command_line import LIMIT_SECONDS

from green_router.processes import systemd as room
from green_router.processes.systemd import notify, reloading

from .conftest import PID, Service


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A service manager's socket, which reads when the test does."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(LIMIT_SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield manager
        room._waiting.clear()


def fill(path: str) -> int:
    """Let the socket have no room; returns how many messages are in it."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
        out.setblocking(False)
        out.connect(path)
        for count in range(100_000):
            try:
                out.send(b"full")
            except BlockingIOError:
                return count
    raise AssertionError


def test_what_is_told(manager: socket.socket) -> None:
    assert notify("READY=1", "STATUS=serving")
    assert reloading()
    assert manager.recv(1000) == b"READY=1\nSTATUS=serving"
    assert manager.recv(1000).startswith(b"RELOADING=1\nMONOTONIC_USEC=")


def test_nobody_is_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    assert not notify("READY=1")
    for path in ("relative", str(tmp_path / "none"), "@green-router-test-nobody"):
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        assert not notify("READY=1")


def test_a_manager_without_room_is_told_when_it_has_some(manager: socket.socket) -> None:
    """In order, and nobody waits for that."""
    full = fill(manager.getsockname())
    begin = time.monotonic()
    for word in ("RELOADING=1", "READY=1", "STOPPING=1"):
        assert notify(word)
    assert time.monotonic() - begin < LIMIT_SECONDS
    assert [manager.recv(100) for _ in range(full)] == [b"full"] * full
    manager.setblocking(False)
    told: list[bytes] = []
    until = time.monotonic() + LIMIT_SECONDS
    while len(told) < 3 and time.monotonic() < until:
        gevent.sleep(0.01)
        try:
            told.append(manager.recv(100))
        except BlockingIOError:
            continue
    assert told == [b"RELOADING=1", b"READY=1", b"STOPPING=1"]


def test_a_manager_that_never_reads_is_given_up(
    manager: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(room, "TOLD_WITHIN", 0.05)
    fill(manager.getsockname())
    assert notify("READY=1")
    until = time.monotonic() + LIMIT_SECONDS
    while room._waiting:
        gevent.sleep(0.01)
        assert time.monotonic() < until


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["one process", "workers"])
def test_a_service_serves_and_ends_although_nobody_reads(
    manager: socket.socket, service: Callable[..., Service], workers: tuple[str, ...]
) -> None:
    """The manager comes first: what the service finds in its environment is the test's at that
    moment."""
    fill(manager.getsockname())
    server = service(PID, *workers)
    assert server.ask(b"")
    server.stop()
