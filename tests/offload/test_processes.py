"""Calls in processes, and in native threads: what comes of them, and of the processes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import gevent
import offloaded
import pytest
from children import children

from green_router import OffloadFailed, StateError, offload
from green_router.testing import DEADLINE, eventually

pytestmark = pytest.mark.usefixtures("engines")

LARGE = bytes(20_000_000)

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"

PROCESSES = "processes:2"
BOTH = pytest.mark.parametrize("engine", ["threads:2", PROCESSES])


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
