"""The control socket: for its owner alone, one question and one answer."""

from __future__ import annotations

import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from command_line import LIMIT_SECONDS
from gevent.threadpool import ThreadPool

from green_router import ConfigError, GreenRouterError
from green_router.processes import control
from green_router.processes.control import Control
from green_router.sockets.probe import listens


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
        with pytest.raises(
            ConfigError, match=r"control = .*: must be a path where a socket can be made"
        ):
            Control(path, {})
        Path(path).unlink()
        Path(path).write_text("")
    finally:
        first.close()
    assert os.path.exists(path)


def test_a_directory_that_others_can_write_to_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By who answers, and by who asks: a stranger could answer there."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "green-router").mkdir()
    (tmp_path / "green-router").chmod(0o777)
    with pytest.raises(ConfigError, match="others can write"):
        Control(None, {})
    for ask in (control.supervisors, lambda: control.path_of(os.getpid())):
        with pytest.raises(
            GreenRouterError, match=r"others can write to .*: nobody knows who answers there"
        ):
            ask()


def test_a_directory_that_is_a_link_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "green-router").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(GreenRouterError, match="others can write"):
        control.supervisors()


def test_nobody_answers_where_there_is_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert control.supervisors() == []
    assert control.path_of(7) == str(tmp_path / "green-router" / "7.sock")


def test_a_path_is_checked_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "control"
    control.check(str(path))
    assert not path.exists()
    for impossible in (tmp_path / "none" / "control", tmp_path / ("x" * 200), tmp_path):
        with pytest.raises(
            ConfigError, match=r"control = .*: must be a path where a socket can be made"
        ):
            control.check(str(impossible))
    running = Control(str(path), {})
    try:
        control.check(str(path))
        assert path.exists()
    finally:
        running.close()


Listening = Callable[[int], str]


@pytest.fixture
def stopped(tmp_path: Path) -> Iterator[Listening]:
    """``stopped(waiting)``: where a process listens that accepts nobody any more, and so many wait
    already."""
    with ExitStack() as stack:

        def listen(waiting: int) -> str:
            path = str(tmp_path / "stopped")
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(path)
            listener.listen(1)
            for _ in range(waiting):
                client = stack.enter_context(socket.socket(socket.AF_UNIX))
                client.setblocking(False)
                client.connect(path)
            return path

        yield listen


@pytest.mark.parametrize("waiting", [0, 2])
def test_a_supervisor_that_is_stopped_is_not_waited_for(stopped: Listening, waiting: int) -> None:
    """Also where no more can wait for it, and a connection is not to be had."""
    path = stopped(waiting)
    begin = time.monotonic()
    assert listens(socket.AF_UNIX, path)
    with pytest.raises(ConfigError, match="a path where a socket can be made"):
        Control(path, {})
    with pytest.raises(
        GreenRouterError, match=r"does not answer within 0.2 s: its process is stopped"
    ):
        control.ask(path, "stats", 0.2)
    assert time.monotonic() - begin < LIMIT_SECONDS


def test_an_answer_that_drips_is_not_waited_for(tmp_path: Path) -> None:
    """The limit is one of the whole, not of each piece."""
    path, over = str(tmp_path / "drips"), threading.Event()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)

        def drip() -> None:
            connection, _ = listener.accept()
            with connection:
                while not over.wait(0.02):
                    connection.sendall(b" ")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(GreenRouterError, match=r"does not answer within 0.3 s"):
                control.ask(path, "stats", 0.3)
        finally:
            over.set()
            thread.join(LIMIT_SECONDS)
