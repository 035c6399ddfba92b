"""Processes that have no memory for what they are to send: the request fails, and they go on."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import zmq
from command_line import LIMIT_SECONDS

from .conftest import Service

LARGE = """
import resource
from pathlib import Path
MIB = 1 << 20

def room(size):
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + size, resource.RLIM_INFINITY))


def handle_request(request):
    if request.data == b"large":
        reply = bytes(96 * MIB)
        room(16 * MIB)          # there is room to live, not to write the reply
        return reply
    return b"small"

def on_error(request, error):
    return str(error).encode()
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_a_worker_without_memory_for_a_reply_serves_on(service: Callable[..., Service]) -> None:
    server = service(LARGE, "--workers", "1", "--on-error", "app:on_error")
    client = server.client(zmq.DEALER)
    for body in (b"small", b"large", b"small"):
        client.send_multipart([b"", body])
    replies = sorted(client.recv_multipart()[1] for _ in range(3))
    assert replies[:2] == [b"small", b"small"]
    assert replies[2] == b"there is no memory to send it to the serving process"
    assert server.ask(b"small") == b"small"
    fates = server.stats()["sum"]["fates"]
    assert fates["answered"] == 3
    assert fates["failed"] == 1


PLANTED = """
import sys
from green_router.processes.supervisor import process

def broken(self):
    raise MemoryError("planted")

process.WorkerProcess._exited = broken
process.KILLED_WITHIN = 0.2
from green_router.commands import main
main(["serve", "app:handle_request", "--workers", "1", "--bind", "tcp://127.0.0.1:*"])
"""


def test_a_callback_of_the_supervisor_that_fails_ends_the_service(tmp_path: Path) -> None:
    """Nobody would ever learn of the worker's end: that is an error of the whole, and no
    silence."""
    (tmp_path / "app.py").write_text(
        "import os\ndef handle_request(request):\n    return b'%d' % os.getpid()\n"
    )
    service = subprocess.Popen(
        [sys.executable, "-c", PLANTED],
        cwd=tmp_path,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert service.stdout is not None
    endpoint = service.stdout.readline().split()[-1]
    context = zmq.Context()
    client = context.socket(zmq.REQ)
    client.linger = 0
    client.connect(endpoint)
    client.send(b"")
    os.kill(int(client.recv()), signal.SIGKILL)
    client.close()
    context.term()
    _, said = service.communicate(timeout=LIMIT_SECONDS)
    assert service.returncode == 1
    assert said.count("MemoryError: planted") >= 2, "where it happened, and why the service ended"
