"""Jobs that a handler forks, in a worker and in one process: none answers for it, and nobody takes
one for a worker."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from processes_apart import until

from .conftest import Service, alive

JOBS = """
import json, multiprocessing, os, signal, time, warnings
# Python 3.12 warns of fork in a process with threads.
warnings.simplefilter("ignore", DeprecationWarning)
NUMBERS = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU, signal.SIGTERM)

def job():
    descriptors = {fd: os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")
                   if os.path.exists(f"/proc/self/fd/{fd}")}
    with open("job.part", "w") as file:
        json.dump({"default": [signal.getsignal(number) == signal.SIG_DFL for number in NUMBERS],
                   "descriptors": list(descriptors.values())}, file)
    os.rename("job.part", "job")
    time.sleep(60)                          # the loop turns, where the standard library is patched

def handle_request(request):
    if request.data == b"start":
        process = multiprocessing.get_context("fork").Process(target=job, daemon=True)
        process.start()
        return b"%d" % process.pid
    if request.data == b"end":              # the moment it was made
        fork = multiprocessing.get_context("fork")
        process = fork.Process(target=time.sleep, args=[60], daemon=True)
        process.start()
        process.terminate()
        process.join(30)
        return b"%r" % process.exitcode
    return b"%d" % os.getpid()
"""

WAYS = pytest.mark.parametrize(
    "options",
    [
        (),
        ("--no-patch",),
        ("--workers", "1"),
        ("--workers", "1", "--no-patch"),
        ("--workers", "1", "--dispatch", "direct"),
    ],
    ids=" ".join,
)


@WAYS
def test_a_job_lives_its_own_life(
    service: Callable[..., Service], options: tuple[str, ...]
) -> None:
    server = service(JOBS, *options)
    serving = int(server.ask(b"who"))
    job = int(server.ask(b"start"))
    try:
        told = server.line.directory / "job"
        until(told.exists)
        found = json.loads(told.read_text())
        assert found["default"] == [True] * 5
        if "--workers" in options:
            ours = {
                os.readlink(f"/proc/{serving}/fd/{fd}") for fd in os.listdir(f"/proc/{serving}/fd")
            }
            assert "/memfd:stacks (deleted)" in ours
            assert "/memfd:stacks (deleted)" not in found["descriptors"]
        before = processor_seconds(job)
        many = server.client(zmq.DEALER)
        for _ in range(300):
            many.send_multipart([b"", b"who"])
        assert {int(many.recv_multipart()[1]) for _ in range(300)} == {serving}
        assert server.ask(b"end") == b"-15"
        assert processor_seconds(job) - before < 0.1
        os.kill(job, signal.SIGTERM)
        until(lambda: not alive(job))
        assert int(server.ask(b"who")) == serving  # nobody has replaced it
    finally:
        if alive(job):
            os.kill(job, signal.SIGKILL)
    log = server.stop()
    assert not [line for line in log if "ERROR" in line or "WARNING" in line]


def processor_seconds(pid: int) -> float:
    """What a process has used so far; a moment later, so that one that burns a processor is
    known."""
    time.sleep(0.2)
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
