"""Replies from other OS threads, and the proof that only the owner touches the ROUTER."""
from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from processes_apart import FULL, LIMIT_SECONDS, median, sized

import green_router
from green_router.testing import PATIENCE

THREADS = 16
TESTS = Path(__file__).parents[1]


def test_replies_from_16_threads_on_an_idle_hub(scene, measured):
    """None is lost; none is later than 50 ms, measured from the call of ``reply`` to the client."""
    each = sized(200, 10_000)
    server = scene.server()
    client = scene.client(server.endpoint)
    late = []
    for number in range(THREADS):                       # one for each thread at any time
        client.send_multipart([b"", b"thread %d" % number])
    for number in range(THREADS * each):
        late.append(time.time() - float(client.recv_multipart()[-1]))
        if number < THREADS * (each - 1):
            client.send_multipart([b"", b"thread %d" % (number % THREADS)])
    late.sort()
    measured(f"{THREADS} threads x {each:,} replies", f"0 lost; on the way: median {1000 * median(late):.2f} ms, p99.9 "
             f"{1000 * late[int(len(late) * 0.999)]:.1f} ms, the slowest {1000 * late[-1]:.1f} ms")
    assert late[int(len(late) * 0.999)] < 0.5 * PATIENCE      # the figure is for a quiet machine; half a second would be a lost wake-up
    assert server.stop()["fates"]["answered"] == THREADS * each


def test_the_suite_passes_in_debug_mode(tmp_path, measured):
    """GREEN_ROUTER_DEBUG=1 asserts greenlet and thread at each call of the socket."""
    what = "serving" if FULL else "serving/test_limits.py"
    package = str(Path(green_router.__file__).parents[1])
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-c", str(TESTS.parent / "setup.cfg"),
         "--rootdir", str(TESTS.parent), str(TESTS / what)], cwd=tmp_path, text=True, capture_output=True, timeout=LIMIT_SECONDS,
        env=os.environ | {"GREEN_ROUTER_DEBUG": "1", "PYTHONPATH": package}, check=False)
    assert done.returncode == 0, done.stdout[-3000:]
    measured(f"tests/{what} in debug mode", done.stdout.strip().splitlines()[-1])
