"""Forked children: each lives its own life, and the parent notices nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest
import zmq
from processes_apart import ANY_PORT, Program, Scene

from green_router.hub import forked
from green_router.testing import DEADLINE, PATIENCE

PATCHED = [False, True]

WAYS = ["raw", "gevent", "multiprocessing"]
"""To fork: CPython's own function, gevent's, which is ``os.fork`` where that is patched, and
``multiprocessing``."""


class Forking:
    """tests/programs/forking_server.py, and its clients."""

    def __init__(self, scene: Scene, patched: bool, loop: str) -> None:
        self.program: Program = scene.program(
            "forking_server.py",
            ANY_PORT,
            environment={
                "PATCH": str(int(patched)),
                "GEVENT_LOOP": loop,
                "PYTHONWARNINGS": "ignore::DeprecationWarning",
            },
        )
        (endpoint,) = self.program.next()
        self.client: Callable[[], zmq.Socket[bytes]] = lambda: scene.client(endpoint, zmq.REQ)
        self._asks = self.client()

    def ask(self, *words: object) -> object:
        self._asks.send_string(" ".join(map(str, words)))
        return json.loads(self._asks.recv())

    def ends(self) -> dict[str, int]:
        """SIGTERM drains it; returns the fates that there are."""
        assert self.ask("echo", "still") == "still"
        self.program.signal(signal.SIGTERM)
        stats = json.loads(self.program.line())
        assert self.program.ends() == 0
        return {fate: number for fate, number in stats["fates"].items() if number}


def loops() -> list[str]:
    """Those that this gevent has."""
    code = "import gevent; gevent.get_hub().loop"
    return [
        loop
        for loop in ("libev-cext", "libuv-cffi")
        if subprocess.run(
            [sys.executable, "-c", code],
            env=os.environ | {"GEVENT_LOOP": loop},
            check=False,
            capture_output=True,
        ).returncode
        == 0
    ]


@pytest.fixture(
    params=[(patched, loop) for patched in PATCHED for loop in loops()],
    ids=lambda param: f"{'patched' if param[0] else 'unpatched'}-{param[1]}",
)
def forking(request: pytest.FixtureRequest) -> Iterator[Forking]:
    scene = Scene()
    yield Forking(scene, *request.param)
    scene.close()


def test_a_child_ends_in_every_way_in_which_a_child_ends(forking: Forking) -> None:
    """And a signal that comes the moment it was forked is its own."""
    codes = {"exit": 3, "_exit": 4, "error": 1, "signal": -signal.SIGTERM, "slept": 5}
    asked = 0
    for how in WAYS:
        for way, code in codes.items():
            assert (how, way, forking.ask("end", how, way)) == (how, way, code)
        # where a handler is left in a child, serve_forever is (6, in this program);
        # multiprocessing's return is an end
        assert forking.ask("end", how, "return") == (0 if how == "multiprocessing" else 6)
        # KeyboardInterrupt, as before it served.
        assert forking.ask("end", how, "interrupt") in (1, -signal.SIGINT)
        for _ in range(2):
            assert forking.ask("terminated", how, int(signal.SIGTERM)) == -signal.SIGTERM
        asked += len(codes) + 4
    assert forking.ask("executed", int(signal.SIGTERM)) == -signal.SIGTERM
    assert forking.ends() == {"answered": asked + 2}


def test_nothing_of_the_parent_goes_on_in_a_child(forking: Forking) -> None:
    """Its loop turns while three greenlets of the parent could wake: none does, none unwinds, and
    it burns nothing."""
    for how in ("raw", "gevent"):
        waiting = {words: forking.client() for words in ("wait 0.05", "wait release", "afterwards")}
        for words, client in waiting.items():
            client.send_string(words)
        assert waiting["afterwards"].recv() == b"replied"
        found = forking.ask("look", how)
        assert isinstance(found, dict)
        assert found.pop("seconds") < 0.1
        assert found == {"went on": [], "wakeup": -1, "profiled": True, "meanings": []}
        assert waiting["wait 0.05"].recv() == b"waited"
    forking.program.kill()


def test_a_child_may_serve_anew(forking: Forking) -> None:
    waiting = forking.client()
    waiting.send(b"wait 0.1")
    for how in ("raw", "gevent"):
        assert forking.ask("anew", how) == "SERVED"
    assert waiting.recv() == b"waited"
    assert forking.ends() == {"answered": 4}


def test_a_child_of_another_thread(forking: Forking) -> None:
    """With the raw function: gevent's watches its children by the main thread's loop alone."""
    assert forking.ask("thread", "raw") == [True]
    assert forking.ends() == {"answered": 2}


def test_a_child_outlives_its_server(forking: Forking) -> None:
    pid = forking.ask("orphan", "multiprocessing")
    assert isinstance(pid, int)
    assert forking.ask("echo", "x") == "x"
    forking.program.kill()
    os.kill(pid, 0)
    os.kill(pid, signal.SIGTERM)


PRELOADED = """
import logging, multiprocessing, os, sys, time
import gevent
from green_router import Server
logging.basicConfig(format="%(process)d %(message)s")
server = Server(lambda request: request.data)
server.bind("tcp://127.0.0.1:0")
server.start()
job = multiprocessing.get_context("fork").Process(target=gevent.sleep, args=[0.05])
job.start()
job.join()
if os.fork() == 0:
    os._exit(0)                     # it does not go on with gevent
os.wait()
pids = []
for _ in range(2):
    pids.append(os.fork())
    if pids[-1] == 0:
        try:
            gevent.sleep(0.2)
            sys.exit(int(server.started or time.process_time() > 0.1))
        finally:
            server.stop()           # as in "with Server(...)"
codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
client = server.context.socket(3)   # REQ
client.connect(server.endpoints[0])
client.send(b"still")
print(*pids, *codes, client.recv().decode())
client.close()
server.stop()
"""


def test_a_worker_of_a_preloaded_server_is_told_that_it_does_not_serve() -> None:
    """Once each; jobs of multiprocessing, and children that only exec or exit, are not."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", PRELOADED],
        text=True,
        check=False,
        capture_output=True,
        timeout=20 * PATIENCE,
    )
    one, two, *rest = done.stdout.split()
    assert rest == ["0", "0", "still"], done.stderr
    told = sorted(line.split(" ", 1) for line in done.stderr.splitlines())
    assert [pid for pid, _ in told] == sorted([one, two])
    assert all(
        "serves there only; to serve in this process, too, start a server after the fork" in line
        for _, line in told
    )


POOL = """
import multiprocessing, os, signal, sys, time
from concurrent.futures import ProcessPoolExecutor
import gevent
from green_router import Server, offload

def stay():
    signal.signal(signal.SIGINT, signal.SIG_IGN)

def work(request):
    os.write(1, b"works\\n")
    time.sleep(0.3)
    return b"done"

if __name__ == "__main__":
    first = stay if sys.argv[1] == "stay" else None
    pool = ProcessPoolExecutor(1, multiprocessing.get_context("fork"), first)
    in_pool = offload(work, pool)

    def handle_request(request):
        if request.data == b"work":
            return in_pool(request)
        os.write(1, b"waits\\n")
        gevent.sleep(0.3)
        return b"waited"

    server = Server(handle_request, on_error=lambda request, error: type(error).__name__.encode())
    server.bind("tcp://127.0.0.1:0")
    server.start()
    print(server.endpoints[0], flush=True)
    server.serve_forever()
    print(server.stats()["fates"]["abandoned"], flush=True)
"""


@pytest.mark.parametrize(
    ("initializer", "worked"), [("stay", b"done"), ("none", b"KeyboardInterrupt")]
)
def test_ctrl_c_drains_a_server_with_a_pool(
    tmp_path: Path, initializer: str, worked: bytes
) -> None:
    """It reaches the whole process group. What the pool had in hand is finished where its processes
    ignore that."""
    (tmp_path / "app.py").write_text(POOL)
    with (
        zmq.Context() as context,
        subprocess.Popen(
            [sys.executable, "-W", "ignore::DeprecationWarning", "app.py", initializer],
            cwd=tmp_path,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        ) as program,
    ):
        assert program.stdout
        endpoint = program.stdout.readline().strip()
        clients = []
        for data in (b"work", b"wait"):
            clients.append(context.socket(zmq.REQ))
            clients[-1].linger, clients[-1].rcvtimeo = 0, int(20_000 * PATIENCE)
            clients[-1].connect(endpoint)
            clients[-1].send(data)
        assert sorted(program.stdout.readline() for _ in clients) == ["waits\n", "works\n"]
        os.killpg(program.pid, signal.SIGINT)
        assert [client.recv() for client in clients] == [worked, b"waited"]
        assert program.stdout.readline() == "0\n"
        assert program.wait(20 * PATIENCE) == 0
        for client in clients:
            client.close()


def test_threads_arm_at_the_same_time() -> None:
    """Servers start in several threads: none of them meets a table that another one is changing."""

    class Thing:
        def disarm(self) -> None:
            """Nothing acts."""

    errors: list[BaseException] = []

    def arm_many() -> None:
        try:
            things = [Thing() for _ in range(300)]
            for thing in things:
                forked.arm(thing)
        except BaseException as error:
            errors.append(error)
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=arm_many) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
    finally:
        sys.setswitchinterval(before)
    assert errors == []
