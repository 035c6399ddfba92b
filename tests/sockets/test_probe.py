"""Whether a process listens at an address: where there is a doubt, one does."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from green_router.sockets import probe
from green_router.sockets.probe import listens


def test_a_path_where_somebody_listens_or_nobody_does(tmp_path: Path) -> None:
    path = str(tmp_path / "path")
    assert not listens(socket.AF_UNIX, path)
    with socket.socket(socket.AF_UNIX) as bound:
        bound.bind(path)
        assert not listens(socket.AF_UNIX, path)
        bound.listen()
        assert listens(socket.AF_UNIX, path)
    assert not listens(socket.AF_UNIX, path)  # it is left over


def test_one_whose_queue_is_full_listens(tmp_path: Path) -> None:
    path = str(tmp_path / "path")
    with socket.socket(socket.AF_UNIX) as bound, socket.socket(socket.AF_UNIX) as waits:
        bound.bind(path)
        bound.listen(0)
        waits.connect(path)
        assert listens(socket.AF_UNIX, path)


def test_a_port(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        assert not listens(socket.AF_INET, bound.getsockname())
        bound.listen()
        assert listens(socket.AF_INET, bound.getsockname())


def test_who_may_not_look_takes_it_for_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may look everywhere, so the refusal is made here."""

    class Forbidden(socket.socket):
        def connect(self, address: object) -> None:
            raise PermissionError

    monkeypatch.setattr(probe.socket, "socket", Forbidden)
    assert listens(socket.AF_UNIX, "/somewhere")
