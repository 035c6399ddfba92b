"""The same server in other surroundings: patched or not, on either loop, and after a fork."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import gevent
import pytest
import zmq
from processes_apart import LIMIT_SECONDS, until

import green_router

pytestmark = pytest.mark.surroundings

LOOPS = ["libev-cext", "libuv-cffi"]


def available(loop):
    code = "import gevent; gevent.get_hub().loop"
    return (
        subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"GEVENT_LOOP": loop},
            check=False,
            capture_output=True,
        ).returncode
        == 0
    )


@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.parametrize("when", ["never", "before", "after", "last"])
def test_a_conversation_and_its_end(scene, measured, tmp_path, when, loop):
    """Patched never, before zmq is imported, after that, or after green_router is; on libev and on
    libuv."""
    if not available(loop):
        pytest.skip(f"this gevent has no {loop}")
    server = scene.server(
        "tcp://127.0.0.1:0",
        f"ipc://{tmp_path}/s",
        program="patched_server.py",
        handler_timeout=5.0,
        explain=True,
        environment={"WHEN": when, "GEVENT_LOOP": loop},
    )
    for endpoint in server.endpoints:
        one = scene.client(endpoint, zmq.REQ)
        many = scene.client(endpoint)
        for data in (b"echo", b"sleep 0.01", b"size 100000", b"thread 3"):
            one.send(data)
            assert one.recv_multipart()
        for number in range(200):
            many.send_multipart([b"", b"sleep 0.0%d" % (number % 10)])
        for _ in range(200):
            many.recv_multipart()
        many.send_multipart([b"", b"stream 100 1000"])
        assert [int(many.recv_multipart()[1]) for _ in range(100)] == list(range(100))
        one.send(b"fail")
        assert one.recv() == b"ValueError"
    wake_ups = server.idle_wake_ups()
    many.send_multipart([b"", b"sleep 0.5"])
    until(lambda: server.stats()["in_flight"] == 1)
    server.signal(signal.SIGTERM)
    assert many.recv_multipart() == [b"", b"sleep 0.5"]
    final = json.loads(server.line())
    assert server.ends() == 0
    assert final["fates"]["answered"] == 2 * (4 + 200 + 1) + 1
    assert final["fates"]["failed"] == 2
    # libuv looks for signals every 0.3 s by itself: gevent's doing
    assert wake_ups == 0 if loop.startswith("libev") else wake_ups < 20
    measured(
        f"patched {when}, {loop}, gevent {gevent.__version__}, pyzmq {zmq.__version__}",
        f"served and drained; {wake_ups} wake-ups in an idle second",
    )


FORK = """
import os, sys
import gevent
from green_router import Request, Server, WrongProcess

requests = []
server = Server(requests.append)
server.bind("tcp://127.0.0.1:0")
server.start()
client = server.context.socket(5)       # DEALER
client.linger = 0
client.connect(server.endpoints[0])
client.send_multipart([b"", b"x"])
while not requests:
    gevent.sleep(0.001)
calls = {
    "start": server.start, "bind": lambda: server.bind("inproc://y"),
    "send": lambda: server.send(b"a", b"b"), "serve_forever": server.serve_forever,
    "context": lambda: server.context, "reply": lambda: requests[0].reply(b"y"),
    "enter": lambda: server.__enter__(), "adopt": lambda: server.adopt("tcp://x", 3),
}
pid = os.fork()
if pid == 0:
    server.stop()       # harmless: a child that ends goes through every "finally"
    wrong = []
    for name, call in calls.items():
        try:
            call()
        except WrongProcess as error:
            if "fork" not in str(error) or str(os.getppid()) not in str(error):
                wrong.append(name)
        except BaseException as error:
            wrong.append(f"{name}: {error!r}")
        else:
            wrong.append(f"{name}: nothing was raised")
    print(wrong, flush=True)
    os._exit(bool(wrong))
status = os.waitpid(pid, 0)[1]
requests.pop().reply(b"still here")
assert client.recv_multipart() == [b"", b"still here"]
client.close()
server.stop()
assert server.stats()["fates"]["answered"] == 1
sys.exit(os.waitstatus_to_exitcode(status))
"""


def test_after_a_fork(measured):
    """A server, its context and its requests say so in the child; the parent goes on."""
    package = str(Path(green_router.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", FORK],
        timeout=LIMIT_SECONDS,
        check=False,
        text=True,
        capture_output=True,
        env=os.environ | {"PYTHONPATH": package},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    measured(
        "a server, its context, a request in a forked process",
        "WrongProcess from all 8 calls, and nothing from stop; the parent goes on",
    )
