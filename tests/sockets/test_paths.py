"""A path is served by one, however many begin at the same moment, and removed by who has it.

Rules of this file
  1. What happens at the same time is brought about by a lock that the test holds, not by chance;
     one test leaves it to chance, often.
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from green_router import BindError
from green_router.sockets import locks
from green_router.sockets.listeners import Listeners
from green_router.sockets.paths import ListeningPath
from green_router.testing import PATIENCE


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Somebody is about to look, and to begin, in this directory."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextmanager
def waiting(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """An event that is set when somebody has found a lock taken."""
    found = threading.Event()
    sleep = locks.sleep

    def noted(seconds: float) -> None:
        found.set()
        sleep(seconds)

    monkeypatch.setattr(locks, "sleep", noted)
    monkeypatch.setattr(locks, "PATIENCE", 60 * PATIENCE)
    yield found


def test_who_begins_at_the_same_moment_waits_and_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s"
    with (
        ThreadPoolExecutor(1) as pool,
        waiting(monkeypatch) as late,
        socket.socket(socket.AF_UNIX) as first,
    ):
        with held(tmp_path):
            second = pool.submit(ListeningPath, f"ipc://{path}", 10, print)
            assert late.wait(30 * PATIENCE)
            first.bind(str(path))
            first.listen(1)
        with pytest.raises(BindError, match="another process serves this path"):
            second.result()
        assert path.exists()


def test_of_many_that_begin_at_the_same_time_one_serves(tmp_path: Path) -> None:
    """Above all where a killed process has left its path over, which each of them finds dead."""
    path, many = tmp_path / "s", 8
    together = threading.Barrier(many)

    def begin() -> ListeningPath | None:
        together.wait()
        try:
            return ListeningPath(f"ipc://{path}", 10, print)
        except BindError as error:
            assert error.errno == errno.EADDRINUSE  # noqa: PT017
            return None

    with ThreadPoolExecutor(many) as pool:
        for _ in range(30):
            with socket.socket(socket.AF_UNIX) as dead:
                dead.bind(str(path))
            began = [each for each in pool.map(lambda _: begin(), range(many)) if each is not None]
            assert len(began) == 1
            began[0].remove()
            began[0].socket.close()
            assert not path.exists()


def test_what_was_killed_is_followed_at_once(tmp_path: Path) -> None:
    """Also where it was killed while it held the lock."""
    code = (
        "import os, sys, time; from green_router.sockets import locks, paths; held = "
        "locks.alone_in(sys.argv[1], print); listening = paths.ListeningPath('ipc://' + "
        "sys.argv[1] + '/s', 10, print); held.__enter__(); print('holds', flush=True); "
        "time.sleep(600)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE
    ) as former:
        assert former.stdout is not None
        assert former.stdout.readline() == b"holds\n"
        former.send_signal(signal.SIGKILL)
        former.wait()
    listening = ListeningPath(f"ipc://{tmp_path}/s", 10, print)
    listening.remove()
    listening.socket.close()


def test_a_lock_that_is_not_let_go_keeps_nobody_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locks, "PATIENCE", 0.01)
    said: list[str] = []
    with held(tmp_path):
        listening = ListeningPath(
            f"ipc://{tmp_path}/s", 10, lambda text, *arguments: said.append(text % arguments)
        )
    assert [text.endswith("going on without") for text in said] == [True]
    listening.remove()
    listening.socket.close()


def test_a_path_is_removed_while_it_is_still_listened_at(tmp_path: Path) -> None:
    """A successor's is left alone, also where it came before the predecessor had closed its own."""
    first = ListeningPath(f"ipc://{tmp_path}/s", 10, print)
    (tmp_path / "s").unlink()
    second = ListeningPath(f"ipc://{tmp_path}/s", 10, print)
    first.remove()
    first.socket.close()
    assert (tmp_path / "s").exists()
    second.remove()
    assert not (tmp_path / "s").exists()
    second.remove()
    second.socket.close()


@pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="elsewhere the lock is that of a directory"
)
def test_a_port_has_one_supervisor_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another one of the same user could share it (SO_REUSEPORT), and each would serve some of the
    clients."""
    with ThreadPoolExecutor(1) as pool, waiting(monkeypatch) as late, socket.socket() as first:
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.bind(("127.0.0.1", 0))
        port = first.getsockname()[1]
        with locks.alone_at(port, print):
            second = pool.submit(Listeners, [f"tcp://127.0.0.1:{port}"], 10)
            assert late.wait(30 * PATIENCE)
            first.listen(1)
        with pytest.raises(BindError, match="the address is in use"):
            second.result()
