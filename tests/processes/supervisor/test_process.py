"""Why a process may have ended: whether the kernel has killed it because memory has run out."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import zmq

from green_router.processes.supervisor import process

from ..conftest import PATIENCE, Service, alive


@pytest.fixture
def memory_group() -> Iterator[Path]:
    """A control group (cgroup v1, where this user may make one) with 200 MB and no swap."""
    path = Path("/sys/fs/cgroup/memory") / f"green-router-test-{os.getpid()}"
    try:
        path.mkdir()
        (path / "memory.limit_in_bytes").write_text(str(200 * 1024 * 1024))
    except OSError as error:
        pytest.skip(f"no control group can be made here: {error}")
    yield path
    until = time.monotonic() + 30 * PATIENCE
    while (path / "cgroup.procs").read_text():
        assert time.monotonic() < until
        time.sleep(0.05)
    path.rmdir()


GREEDY = """
import os
def handle_request(request):
    if request.data == b"more":
        kept = []
        while True:
            kept.append(bytes(os.urandom(1024)) * 1024)
    return b"%d" % os.getpid()
"""


def test_want_of_memory_is_told(service: Callable[..., Service], memory_group: Path) -> None:
    """The kernel really kills here; and an operator's kill -9 of another afterwards is not taken
    for the same."""
    server = service(GREEDY, "--workers", "2")
    pids = server.workers()
    for pid in (server.pid, *pids):
        (memory_group / "cgroup.procs").write_text(str(pid))
    server.client(zmq.DEALER).send_multipart([b"", b"more"])
    server.running.err.until(
        "was killed by SIGKILL, most likely because memory has run out; the next starts in"
    )
    server.running.err.until(": ready")
    (other,) = (pid for pid in pids if alive(pid))  # it has not been heard since
    os.kill(other, signal.SIGKILL)
    server.running.err.until("was killed by SIGKILL; the next starts in")
    server.stop()


V2, V1 = "0::/app\n", "4:memory:/app\n1:cpu:/\n0::/\n"


@pytest.mark.parametrize(
    ("group", "files", "kills"),
    [
        (
            V2,
            {
                "sys/fs/cgroup/app/memory.events": "low 0\noom 3\noom_kill 2\n",
                "proc/vmstat": "oom_kill 9\n",
            },
            2,
        ),
        (V2, {"sys/fs/cgroup/memory.events": "oom_kill 4\n", "proc/vmstat": "oom_kill 9\n"}, 4),
        (
            V1,
            {
                "sys/fs/cgroup/memory/app/memory.oom_control": "under_oom 0\noom_kill 5\n",
                "proc/vmstat": "oom_kill 9\n",
            },
            5,
        ),
        (V1, {"sys/fs/cgroup/memory/memory.oom_control": "oom_kill 6\n"}, 6),
        (V2, {"proc/vmstat": "nr_free_pages 5\noom_kill 9\noom_kill_x 1\n"}, 9),
        (
            V2,
            {"sys/fs/cgroup/app/memory.events": "oom_kill many\n", "proc/vmstat": "oom_kill 9\n"},
            9,
        ),
        (V2, {}, 0),
        (None, {"proc/vmstat": "oom_kill 9\n"}, 9),
    ],
)
def test_the_nearest_counter_counts(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    group: str | None,
    files: dict[str, str],
    kills: int,
) -> None:
    for name, text in {
        **files,
        **({"proc/self/cgroup": group} if group is not None else {}),
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(process, "ROOT", tmp_path)
    assert process.memory_kills() == kills
