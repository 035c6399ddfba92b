"""A lock keeps others out for a moment, however its holder ends, and nobody for good."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from green_router.sockets import locks
from green_router.sockets.locks import alone_at, alone_in


class Warned(list[str]):
    """What was said."""

    def __call__(self, text: str, *arguments: object) -> None:
        self.append(text % arguments)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> Warned:
    """And nobody has patience."""
    monkeypatch.setattr(locks, "PATIENCE", 0.0)
    return Warned()


def test_of_two_in_a_directory_the_second_is_told_and_goes_on(tmp_path: Path, said: Warned) -> None:
    with alone_in(str(tmp_path), said):
        assert said == []
        with alone_in(str(tmp_path), said):
            assert len(said) == 1
        assert said[0].startswith(f"{tmp_path}: another process holds the lock")
    with alone_in(str(tmp_path), said):
        assert len(said) == 1


def test_of_two_at_a_port_the_second_is_told_and_another_port_is_free(said: Warned) -> None:
    with alone_at(1, said), alone_at(2, said):
        assert said == []
        with alone_at(1, said):
            assert len(said) == 1
        assert said[0].startswith("port 1: " if os.uname().sysname == "Linux" else "")


def test_who_fails_lets_go(tmp_path: Path, said: Warned) -> None:
    with pytest.raises(KeyError), alone_in(str(tmp_path), said), alone_at(1, said):
        raise KeyError
    with alone_in(str(tmp_path), said), alone_at(1, said):
        assert said == []


def test_a_directory_that_is_not_there_is_no_matter_of_locks(tmp_path: Path, said: Warned) -> None:
    with alone_in(str(tmp_path / "absent"), said):
        assert said == []
