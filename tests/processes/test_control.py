"""The control socket: for its owner alone, one question and one answer."""
from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

import pytest
from gevent.threadpool import ThreadPool

from green_router import ConfigError, GreenRouterError
from green_router.processes import control
from green_router.processes.control import Control


def asked(path: str, question: str) -> object:
    """Ask from an OS thread, while this one's hub answers."""
    pool = ThreadPool(1)
    try:
        return pool.apply(control.ask, (path, question))
    finally:
        pool.kill()


def test_a_question_and_its_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    made = Control(None, {"stats": lambda: {"received": 7}})
    try:
        assert stat.S_IMODE(os.stat(made.path).st_mode) == 0o600
        assert asked(made.path, "stats") == {"received": 7}
        assert asked(made.path, "stop") == {"error": "unknown question 'stop'"}
        assert control.supervisors() == [made.path]
    finally:
        made.close()
    assert control.supervisors() == []
    with pytest.raises(GreenRouterError, match="does not answer"):
        control.ask(made.path, "stats")


def test_a_socket_that_was_left_over_is_replaced(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(path)
    Control(path, {}).close()
    assert not os.path.exists(path)


def test_somebody_elses_is_left_alone(tmp_path: Path) -> None:
    path = str(tmp_path / "control")
    first = Control(path, {})
    try:
        with pytest.raises(ConfigError, match=r"control = .*: must be a path where a socket can be made"):
            Control(path, {})
        Path(path).unlink()
        Path(path).write_text("")
    finally:
        first.close()
    assert os.path.exists(path)


def test_a_directory_that_others_can_write_to_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By who answers, and by who asks: a stranger could answer there."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "green-router").mkdir()
    (tmp_path / "green-router").chmod(0o777)
    with pytest.raises(ConfigError, match="others can write"):
        Control(None, {})
    for ask in (control.supervisors, lambda: control.path_of(os.getpid())):
        with pytest.raises(GreenRouterError, match=r"others can write to .*: nobody knows who answers there"):
            ask()


def test_a_directory_that_is_a_link_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "green-router").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GreenRouterError, match="others can write"):
        control.supervisors()


def test_nobody_answers_where_there_is_no_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert control.supervisors() == []
    assert control.path_of(7) == str(tmp_path / "green-router" / "7.sock")


def test_a_path_is_checked_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "control"
    control.check(str(path))
    assert not path.exists()
    for impossible in (tmp_path / "none" / "control", tmp_path / ("x" * 200), tmp_path):
        with pytest.raises(ConfigError, match=r"control = .*: must be a path where a socket can be made"):
            control.check(str(impossible))
    running = Control(str(path), {})
    try:
        control.check(str(path))
        assert path.exists()
    finally:
        running.close()
