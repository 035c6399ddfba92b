"""The clients of a bench from outside: processes that die or hang hold up nobody."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest
from bench_figures import broken_client, load, unseen

from green_router.commands.bench import clients as bench_clients
from green_router.commands.bench import command as bench
from green_router.commands.bench.clients import Failed, Load
from green_router.commands.bench.report import Outcome
from green_router.commands.bench.strategies import found
from green_router.commands.terminal import progress

pytestmark = pytest.mark.measures


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (
            "raise ValueError('no')",
            r"a load process ended with exit code 1; its last words: ValueError: no",
        ),
        ("raise ConnectionError('no')", r"ConnectionError: no"),
        (
            "os.kill(os.getpid(), 9)",
            r"a load process was killed by SIGKILL \(as where memory runs out\)",
        ),
        ("time.sleep(1000)", r"a load process did not answer in time"),
    ],
)
def test_a_load_process_that_dies_or_hangs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: str, words: str
) -> None:
    if "time" in words:
        monkeypatch.setattr(bench_clients, "LATE", 0.5)
        monkeypatch.setattr(bench_clients, "DRAIN", 0.5)
    strategies = [broken_client(tmp_path, code), found()["green_router"]]
    outcomes = {strategy.name: Outcome(strategy.title) for strategy in strategies[:1]}
    with progress(1) as shown:
        bench.compare(strategies[:1], outcomes, load(patience=0.5), 1, shown)
    assert re.fullmatch(words, outcomes["broken"].failed or ""), outcomes


def test_one_load_process_of_several_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The others work for a minute, and are not waited for."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)), raising=False)
    one_dies = (
        f"import threading; os.mkdir({str(tmp_path / 'one')!r}); "
        "threading.Timer(1, os.kill, (os.getpid(), 9)).start()"
    )
    strategy = broken_client(tmp_path, "time.sleep(0.001)")
    strategy.program.write_text(
        f"{strategy.program.read_text()}else:\n    try: {one_dies}\n    except FileExistsError: "
        "pass\n"
    )
    with pytest.raises(Failed, match=r"^a load process was killed by SIGKILL"):
        bench.measure(strategy, Load(4, 4, 64, 60.0, 0), unseen)


def test_many_clients_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    measured = bench.measure(found()["green_router"], load(clients=500), unseen)
    assert measured.replies >= 2000
