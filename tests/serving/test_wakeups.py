"""Law 2: idle means zero wake-ups, counted by the kernel: voluntary context switches of every
thread of the server."""

from __future__ import annotations

import glob
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import zmq

from green_router.testing import PATIENCE

pytestmark = pytest.mark.skipif(
    not os.path.isdir("/proc/self/task"), reason="needs /proc/PID/task to count wake-ups"
)

PROGRAM = """
import gevent, sys
from green_router import Server

gate = gevent.event.Event()
kept = []

def handler(request):
    if request.data == b"wait":
        gate.wait()
    elif request.data == b"keep":
        kept.append(request)
        return None
    elif request.data == b"sleep":
        gevent.sleep(60)
    return request.data

server = Server(handler, grace=0, **eval(sys.argv[1]))
server.bind("tcp://127.0.0.1:0")
server.start()
print(server.endpoints[0], flush=True)
server.serve_forever()
"""


def wake_ups(pid):
    total = 0
    for path in glob.glob(f"/proc/{pid}/task/*/status"):
        total += int(Path(path).read_text().split("\nvoluntary_ctxt_switches:")[1].split()[0])
    return total


@pytest.fixture
def start():
    processes, sockets, context = [], [], zmq.Context()

    def run(**settings):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, repr(settings)], stdout=subprocess.PIPE
        )
        processes.append(process)
        endpoint = process.stdout.readline().decode().strip()

        def client():
            socket = context.socket(zmq.DEALER)
            socket.linger, socket.sndhwm, socket.rcvhwm = 0, 0, 0
            socket.connect(endpoint)
            sockets.append(socket)
            return socket

        return process.pid, client

    yield run
    for process in processes:
        process.kill()
        process.communicate()
    for socket in sockets:
        socket.close()
    context.term()


def quiet(pid, seconds=1.0):
    """Wake-ups in that time, once the last message is over."""
    time.sleep(0.3 * PATIENCE)
    before = wake_ups(pid)
    time.sleep(seconds)
    return wake_ups(pid) - before


@pytest.mark.parametrize(
    "settings",
    [{}, {"handler_timeout": 30.0, "park_timeout": 30.0}],
    ids=["plain", "with deadlines"],
)
@pytest.mark.parametrize(("what", "count"), [(b"wait", 2000), (b"keep", 2000), (b"sleep", 100)])
def test_zero_while_requests_are_pending(start, settings, what, count):
    pid, client = start(**settings)
    one = client()
    for _ in range(count):
        one.send_multipart([b"", what])
    one.send_multipart([b"", b"now"])
    assert one.recv_multipart() == [b"", b"now"]
    assert quiet(pid) == 0


def test_zero_with_idle_clients(start):
    pid, client = start()
    for one in [client() for _ in range(100)]:
        one.send_multipart([b"", b"now"])
        assert one.recv_multipart() == [b"", b"now"]
    assert quiet(pid) == 0


def test_zero_when_all_clients_have_gone(start):
    pid, client = start()
    for one in [client() for _ in range(100)]:
        one.send_multipart([b"", b"now"])
        assert one.recv_multipart() == [b"", b"now"]
        one.close()
    assert quiet(pid) == 0
