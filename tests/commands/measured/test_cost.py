"""What a process costs, against processes whose cost is known."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from green_router.commands.measured.cost import Usage

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system has no /proc"
)

BUSY = "import time\nend = time.process_time() + 0.2\nwhile time.process_time() < end: pass"
WAKING = "import time\nfor _ in range(200): time.sleep(0.001)"
SILENT = ""


@contextmanager
def program(work: str) -> Iterator[tuple[Usage, Usage]]:
    """Two samples of a process, before and after its work."""
    step = "print(flush=True)\ninput()\n"
    with subprocess.Popen(
        [sys.executable, "-c", f"{step}{work}\n{step}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        process.stdout.readline()
        before = Usage(process.pid)
        process.stdin.write(b"\n")
        process.stdin.flush()
        process.stdout.readline()
        yield before, Usage(process.pid)


@needs_proc
@pytest.mark.parametrize(
    ("work", "cpu", "wakeups"),
    [
        (BUSY, (0.19, 0.25), (0, 10)),
        (WAKING, (0.0, 0.1), (195, 215)),
        (SILENT, (0.0, 0.01), (0, 5)),
    ],
)
def test_counts(work: str, cpu: tuple[float, float], wakeups: tuple[int, int]) -> None:
    with program(work) as (before, after):
        cost = after.since(before)
    assert cost.cpu_seconds is not None
    assert cost.wakeups is not None
    assert cpu[0] <= cost.cpu_seconds <= cpu[1]
    assert wakeups[0] <= cost.wakeups <= wakeups[1]
    assert cost.cpu_percent == pytest.approx(100 * cost.cpu_seconds / cost.seconds)
    assert cost.wakeups_per_second == pytest.approx(cost.wakeups / cost.seconds)


def test_where_the_system_does_not_say_there_is_no_figure() -> None:
    nobody = 2**30
    cost = Usage(nobody).since(Usage(nobody))
    assert (cost.cpu_seconds, cost.cpu_percent, cost.wakeups, cost.wakeups_per_second) == (
        None,
        None,
        None,
        None,
    )
