"""The file with the process id: written when it serves, removed at the end, and nobody else's is
touched."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from green_router import ConfigError
from green_router.processes.pid_file import PidFile, check

from .conftest import PID, Service


def gone() -> int:
    """The id of a process that has ended."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    return process.pid


def test_it_is_written_and_removed(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    with PidFile(str(path)) as file:
        assert not path.exists()
        file.write()
        assert path.read_text() == f"{os.getpid()}\n"
    assert list(tmp_path.iterdir()) == []


def test_without_a_path_nothing_happens() -> None:
    with PidFile(None) as file:
        file.write()


@pytest.mark.parametrize("text", ["", "no number", "-1", "0"])
def test_what_is_no_process_is_replaced(tmp_path: Path, text: str) -> None:
    path = tmp_path / "app.pid"
    path.write_text(text or f"{gone()}\n")
    with PidFile(str(path)) as file:
        file.write()
        assert path.read_text() == f"{os.getpid()}\n"


def test_the_file_of_one_that_lives_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    path.write_text(f"{os.getppid()}\n")
    with (
        pytest.raises(ConfigError, match=f"process {os.getppid()}, which is in it, is running"),
        PidFile(str(path)),
    ):
        pass
    assert path.read_text() == f"{os.getppid()}\n"


def test_a_file_that_another_has_taken_over_stays(tmp_path: Path) -> None:
    path = tmp_path / "app.pid"
    with PidFile(str(path)) as file:
        file.write()
        path.write_text("1\n")
    assert path.read_text() == "1\n"


def test_where_no_file_can_be(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none" / "app.pid"):
        with pytest.raises(ConfigError, match="must be a file in a directory"):
            check(str(path))


@pytest.mark.parametrize("options", [(), ("--workers", "1")], ids=["one process", "a worker"])
def test_a_service_has_its_file(service: Callable[..., Service], options: tuple[str, ...]) -> None:
    server = service(PID, "--pid", "app.pid", *options)
    path = server.line.directory / "app.pid"
    assert path.read_text() == f"{server.pid}\n"
    again = server.line.run(
        "serve", "app:handle_request", "--bind", "tcp://127.0.0.1:0", "-p", "app.pid"
    )
    assert again.returncode == 2
    assert f"process {server.pid}, which is in it, is running" in again.stderr.decode()
    server.stop()
    assert not path.exists()
