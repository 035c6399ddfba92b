"""Calls that a cluster of Dask makes: a real scheduler, and workers that are processes.

It takes a while to start them, so this file runs in a tox environment of its own, ``dask``; at full
size 10,000 requests.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import gevent
import offloaded
import pytest
import zmq

from green_router import OffloadFailed, offload
from green_router.offload.engines import ENGINES
from green_router.testing import DEADLINE, RunningServer, eventually

pytestmark = pytest.mark.dask

REQUESTS = 10_000 if os.environ.get("GREEN_ROUTER_TEST_FULL") == "1" else 500

AT_ONCE = 100


class Cluster:
    """A scheduler at a port of its own, and workers."""

    def __init__(self, directory: Path) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            self.port = server.getsockname()[1]
        self.address = f"tcp://127.0.0.1:{self.port}"
        self.engine = f"dask:{self.address}"
        self.log = (directory / "dask.log").open("w")
        self.environment = os.environ | {
            "PYTHONPATH": str(Path(offloaded.__file__).parent),
            "PYTHONWARNINGS": "ignore",
        }
        self.programs: list[subprocess.Popen[bytes]] = []

    def start(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        started = subprocess.Popen(
            [sys.executable, "-m", f"distributed.cli.dask_{program}", "--no-dashboard", *arguments],
            env=self.environment,
            stdout=self.log,
            stderr=self.log,
        )
        self.programs.append(started)
        return started

    def scheduler(self) -> subprocess.Popen[bytes]:
        return self.start("scheduler", "--host", "127.0.0.1", "--port", str(self.port), "--no-show")

    def worker(self) -> subprocess.Popen[bytes]:
        return self.start(
            "worker", self.address, "--nthreads", "1", "--no-nanny", "--memory-limit", "0"
        )

    def close(self) -> None:
        for program in self.programs:
            program.kill()
            program.wait()
        self.log.close()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    pytest.importorskip("distributed")
    cluster = Cluster(tmp_path_factory.mktemp("dask"))
    yield cluster
    ENGINES.close()
    cluster.close()


def answers(call: Callable[..., Any]) -> bool:
    """Whether the cluster makes a call."""
    with suppress(OffloadFailed):
        return bool(call(b"?").result(DEADLINE) == b"?")
    return False


def ask_all(server: RunningServer, count: int, meanwhile: Callable[[], object]) -> None:
    """Have so many requests answered, and check each; ``meanwhile`` is called when a fifth has
    been."""
    client = server.client(zmq.DEALER)
    sent, left = 0, set(range(count))
    with gevent.Timeout(10 * DEADLINE + count / 20):
        while left:
            while sent < count and sent - (count - len(left)) < AT_ONCE:
                client.send_multipart([b"%d" % sent, b"", b"request %d" % sent])
                sent += 1
            number, _, reply = client.recv_multipart()
            assert reply == b"REQUEST %d" % int(number)
            left.remove(int(number))
            if len(left) == count - count // 5:
                meanwhile()


def test_the_life_of_a_cluster(serve: Callable[..., RunningServer], cluster: Cluster) -> None:
    """In the order in which it happens, because it takes seconds to start one.

    There is no scheduler; there is; requests, and a worker is killed under them; errors, large
    arguments, equal requests and a deadline; the scheduler goes, and comes back.
    """
    echo = offload(offloaded.echo, cluster.engine)
    with pytest.raises(OffloadFailed, match=f"^there is no Dask scheduler at {cluster.address}"):
        echo(b"").result(DEADLINE)
    scheduler = cluster.scheduler()
    first, _ = cluster.worker(), cluster.worker()
    eventually(lambda: answers(echo), 6 * DEADLINE)

    server = serve(
        offload(offloaded.upper, cluster.engine), envelope="fixed:3", max_in_flight=AT_ONCE
    )
    ask_all(server, REQUESTS, first.kill)
    assert server.stats()["fates"]["answered"] == REQUESTS

    with pytest.raises(offloaded.Refusal) as caught:
        offload(offloaded.fail, cluster.engine)("no").result(DEADLINE)
    assert caught.value.args == ("no", 7)
    assert len(echo(bytes(20_000_000)).result(DEADLINE)) == 20_000_000
    notes = cluster.log.name + ".notes"
    for future in [offload(offloaded.note, cluster.engine)(notes, "x") for _ in range(5)]:
        future.result(DEADLINE)
    assert Path(notes).read_text() == "xxxxx", "equal calls are not taken for one"

    gate = Path(cluster.log.name + ".gate")
    gate.touch()
    hurried = serve(
        lambda request: offload(offloaded.wait, cluster.engine)(str(gate)),
        handler_timeout=0.1,
        on_error=lambda request, error: type(error).__name__.encode(),
    )
    waiting = [offload(offloaded.wait, cluster.engine)(str(gate)) for _ in range(3)]
    assert hurried.ask(b"") == b"HandlerTimeout"

    scheduler.kill()
    for future in waiting:
        with pytest.raises(
            OffloadFailed, match=r"^the call was given up: there is no Dask scheduler at "
        ):
            future.result(DEADLINE)
    began = monotonic()
    with pytest.raises(OffloadFailed, match=r"there is no Dask scheduler at "):
        echo(b"").result(DEADLINE)
    assert monotonic() - began < DEADLINE / 10, "at once"
    gate.unlink()
    scheduler.wait()
    cluster.scheduler()
    cluster.worker()
    eventually(lambda: answers(echo), 6 * DEADLINE)
