"""The room that a machine has for a bench: what cannot be is refused, with what it would need."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import COMMAND, LIMIT_SECONDS, CommandLine

from green_router.commands import main
from green_router.commands.bench import machine as bench_machine
from green_router.commands.bench.clients import Load

pytestmark = pytest.mark.measures


def test_there_must_be_room(command_line: CommandLine) -> None:
    done = CliRunner().invoke(main, ["bench", "--clients", "10000", "--in-flight", "100000"])
    assert done.exit_code == 2
    assert re.search(
        r"10,000 clients, each with 100,000 requests of 64 bytes in flight, need about 7,[\d.,]+ "
        r"GiB of memory, and "
        r"[\d.,]+ GiB are available",
        " ".join(done.output.split()),
    )


@pytest.mark.parametrize(
    ("strategy", "words"),
    [
        ("green_router", "1,000 clients with one connection each need about 1,064 descriptors"),
        ("two_sockets", "1,000 clients with 2 connections each need about 2,064 descriptors"),
    ],
)
def test_there_must_be_descriptors(command_line: CommandLine, strategy: str, words: str) -> None:
    limited = ["/bin/sh", "-c", 'ulimit -n 300 && exec "$@"', "-"]
    done = subprocess.run(
        [*limited, *COMMAND, "bench", "--clients", "1000", "--strategies", strategy],
        env=command_line.env,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, b"")
    said = " ".join(done.stderr.decode().split())
    assert words in said
    assert "a process may have 300 here (ulimit -Hn): that is enough for" in said


def test_the_cores_are_those_that_this_process_may_use(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    assert Load(500, 4, 64, 0.2, 0).processes == 3
    assert Load(2, 4, 64, 0.2, 0).processes == 2
    monkeypatch.setattr(bench_machine.os, "sched_getaffinity", lambda _: {5})
    assert Load(500, 4, 64, 0.2, 0).processes == 1


def test_where_the_system_does_not_say_what_there_is_nothing_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No /proc, no cgroup: another system, or a container that has none of it."""
    monkeypatch.setattr(
        bench_machine, "Path", lambda *parts: tmp_path.joinpath(parts[-1].lstrip("/"))
    )
    assert bench_machine.memory_bytes() is None
    bench_machine.refuse_what_has_no_room(1, 10**9, 10**9, 1)
    assert bench_machine.processor()


@pytest.mark.parametrize(
    ("limit", "available"), [("max", 4096 * 1024), ("3000", 2000), ("99999999999", 4096 * 1024)]
)
def test_a_container_has_what_is_left_of_its_limit(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: str, available: int
) -> None:
    for name, text in (
        ("meminfo", "MemTotal: 9 kB\nMemAvailable:    4096 kB\n"),
        ("memory.max", limit),
        ("memory.current", "1000"),
    ):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(bench_machine, "Path", lambda *parts: tmp_path / Path(parts[-1]).name)
    assert bench_machine.memory_bytes() == available
