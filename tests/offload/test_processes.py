"""Calls in processes, and in native threads: what comes of them, and of the processes."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, TimeoutError, wait
from contextlib import suppress
from pathlib import Path
from typing import Any

import gevent
import offloaded
import pytest

from green_router import ConfigError, OffloadFailed, StateError, offload
from green_router.offload.engines import ENGINES
from green_router.testing import DEADLINE, RunningServer, eventually

Serve = Callable[..., RunningServer]

LARGE = bytes(20_000_000)

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"

PROCESSES = "processes:2"
BOTH = pytest.mark.parametrize("engine", ["threads:2", PROCESSES])


@pytest.fixture(scope="module", autouse=True)
def engines() -> Iterator[None]:
    """Those of this file: its processes are started once."""
    yield
    ENGINES.close()
    assert children() == []


def children() -> list[int]:
    """The processes that this one has started for calls."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            if parent == os.getpid() and b"offload/child.py" in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
    return found


@BOTH
def test_what_goes_and_comes(engine: str) -> None:
    call = offload(offloaded.echo, engine)
    assert call(b"one").result(DEADLINE) == b"one"
    assert call(1, [2.5, {"three": None}], four=b"").result() == (
        (1, [2.5, {"three": None}]),
        {"four": b""},
    )
    assert len(call(LARGE, named=LARGE).result()[1]["named"]) == len(LARGE)
    array = bytearray(200_000)
    assert call(array).result() == array


@BOTH
def test_what_is_raised(engine: str) -> None:
    with pytest.raises(offloaded.Refusal) as caught:
        offload(offloaded.fail, engine)("no").result()
    assert caught.value.args == ("no", 7)
    if engine == PROCESSES:
        assert "raise Refusal(text, 7)" in str(caught.value.__cause__)


def test_a_process_is_one_of_ours() -> None:
    assert offload(offloaded.pid, PROCESSES)().result() in children()


def test_what_cannot_be_pickled() -> None:
    for function, text in (
        (offloaded.cannot_be_pickled, "its result, function, cannot be pickled: "),
        (lambda: None, "<lambda> cannot be called elsewhere: "),
        (offloaded.fail_strangely, "what it raised, Traceback"),
    ):
        with pytest.raises(OffloadFailed, match=text):
            offload(function, PROCESSES)().result()


@pytest.mark.parametrize("data", [LARGE, [LARGE]], ids=["beside the pickle", "inside"])
def test_large_arguments_do_not_stop_the_hub(data: Any) -> None:
    """It turns on: with a pool that blocks it, it does not at all. Held against the clock at full
    size, as the best of some."""
    call = offload(offloaded.length, PROCESSES)
    call(b"").result()
    longest = []
    for _ in range(5):
        stops: list[float] = []
        ticker = gevent.spawn(tick, stops)
        futures = [call(data) for _ in range(4)]
        assert [future.result() for future in futures] == [len(LARGE)] * 4
        ticker.kill()
        longest.append(max(stops))
        assert len(stops) > 2
    assert not FULL or min(longest) < 0.05


def tick(stops: list[float]) -> None:
    before = time.monotonic()
    while True:
        gevent.sleep(0.001)
        now = time.monotonic()
        stops.append(now - before)
        before = now


@pytest.mark.parametrize(
    ("function", "arguments", "how"),
    [
        (offloaded.end, (3,), "ended with exit code 3"),
        (offloaded.crash, (), "was killed by SIGSEGV"),
    ],
)
def test_a_process_that_ends_fails_its_call_alone(
    function: Callable[..., Any], arguments: Any, how: str, tmp_path: Path
) -> None:
    (gate := tmp_path / "gate").touch()
    other = offload(offloaded.wait, PROCESSES)(str(gate))
    with pytest.raises(
        OffloadFailed,
        match=rf"^{function.__name__} has no result: process \d+, which had it, {how}$",
    ):
        offload(function, PROCESSES)(*arguments).result()
    gate.unlink()
    assert other.result()
    assert {
        future.result() for future in [offload(offloaded.pid, PROCESSES)() for _ in range(20)]
    } <= set(children())


def test_a_decorated_function_knows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match="green-router serve --offload processes:8"):
        offloaded.decorated(4)
    monkeypatch.setattr(ENGINES, "default", PROCESSES)
    assert offloaded.decorated(4).result() == 8


@BOTH
def test_whoever_waits_lets_others_go_on(engine: str, tmp_path: Path) -> None:
    """A greenlet, an OS thread, a coroutine, concurrent.futures; and a time that is over."""
    (gate := tmp_path / "gate").touch()
    future = offload(offloaded.wait, engine)(str(gate))
    with pytest.raises(TimeoutError):
        future.result(0.01)
    waits = [gevent.spawn(future.result), gevent.spawn(future.exception)]
    told: list[Any] = []
    threads = [
        threading.Thread(target=lambda: told.append(future.result())),
        threading.Thread(target=lambda: told.append(asyncio.run(awaited(future)))),
        threading.Thread(target=lambda: told.append(wait([future]).done.pop().result())),
    ]
    for thread in threads:
        thread.start()
    gevent.sleep(0.01)
    gate.unlink()
    gevent.joinall(waits)
    for thread in threads:
        thread.join()
    assert [waits[0].value] * 3 == told


async def awaited(future: Any) -> Any:
    return await asyncio.wrap_future(future)


@BOTH
def test_a_request_that_is_settled_cancels_what_has_not_begun(
    serve: Serve, engine: str, tmp_path: Path
) -> None:
    (gate := tmp_path / "gate").touch()
    busy = [offload(offloaded.wait, engine)(str(gate)) for _ in range(2)]
    eventually(lambda: all(each.running() for each in busy))
    notes = tmp_path / "notes"
    server = serve(
        lambda request: offload(offloaded.note, engine)(str(notes), request.data.decode()),
        handler_timeout=0.05,
        on_error=lambda request, error: type(error).__name__.encode(),
    )
    assert server.ask(b"x") == b"HandlerTimeout"
    gevent.sleep(0)
    gate.unlink()
    assert busy[0].result() and busy[1].result()
    assert offload(offloaded.echo, engine)(b"behind it").result() == b"behind it"
    assert not notes.exists()


@BOTH
def test_a_handler_of_its_own_and_a_part_of_one(serve: Serve, engine: str) -> None:
    assert serve(offload(offloaded.upper, engine)).ask(b"whole") == b"WHOLE"
    server = serve(lambda request: b"%d" % offload(offloaded.length, engine)(request.data).result())
    assert server.ask(b"part") == b"4"


async def by_coroutine(request: Any) -> bytes:
    return b"%d" % await asyncio.wrap_future(offload(offloaded.length, PROCESSES)(request.data))


def test_a_coroutine_offloads(serve: Serve) -> None:
    assert serve(by_coroutine).ask(b"some") == b"4"


@pytest.mark.parametrize(
    "text", ["processes", "processes:0", "threads:many", "dask:scheduler", "", "ray:8"]
)
def test_what_is_no_engine(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"must be threads:N, processes:N \(N from 1 to 1,024\) or dask:ADDRESS"
    ):
        offload(offloaded.echo, text)


def test_the_order_of_old() -> None:
    with pytest.raises(ConfigError, match=r"offload\(function, executor\)"):
        offload(ENGINES.get("threads:1"))  # type: ignore[arg-type]


def test_the_end_cancels_and_cuts_off(tmp_path: Path) -> None:
    from green_router.offload.processes import Processes

    (gate := tmp_path / "gate").touch()
    executor = Processes(1)
    begun, waiting = (executor.submit(offloaded.wait, str(gate)) for _ in range(2))
    eventually(begun.running)
    before = set(children())
    executor.shutdown(cancel_futures=True)
    with pytest.raises(OffloadFailed, match="the executor was shut down"):
        begun.result()
    with pytest.raises(CancelledError):
        waiting.result()
    with pytest.raises(StateError):
        executor.submit(offloaded.pid)
    assert len(before - set(children())) == 1


PROGRAM = """
import sys, time
if "patched" in sys.argv:
    from gevent import monkey; monkey.patch_all()
import gevent, os, offloaded
from green_router import offload

def mine(number):
    return Mine(number)

class Mine:
    def __init__(self, number):
        self.number = number

if __name__ == "__main__":
    assert offload(mine, "processes:1")(7).result().number == 7
    print(offload(offloaded.pid, "processes:1")().result(), flush=True)
    if "stays" in sys.argv:
        offload(offloaded.wait, "processes:1")(__file__)
        gevent.sleep(100)
"""


@pytest.mark.parametrize(
    "arguments",
    [["patched"], ["unpatched"], ["patched", "stays"], ["unpatched", "stays"]],
    ids=" ".join,
)
def test_nothing_outlives_a_program(arguments: list[str], tmp_path: Path) -> None:
    """One that ends, and one that is killed while a call goes on. What is called may be in the
    program itself."""
    (path := tmp_path / "program.py").write_text(PROGRAM)
    with subprocess.Popen(
        [sys.executable, str(path), *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ
        | {
            "PYTHONPATH": os.pathsep.join(
                [
                    str(Path(offloaded.__file__).parent),
                    *os.environ.get("PYTHONPATH", "").split(os.pathsep),
                ]
            )
        },
    ) as program:
        assert program.stdout is not None
        pid = int(program.stdout.readline())
        if "stays" in arguments:
            program.kill()
        assert program.wait(DEADLINE) == (-signal.SIGKILL if "stays" in arguments else 0)
    eventually(
        lambda: (
            not Path(f"/proc/{pid}/cmdline").exists()
            or not Path(f"/proc/{pid}/cmdline").read_bytes()
        )
    )
