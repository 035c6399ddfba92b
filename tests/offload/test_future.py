"""A future can be waited for by whoever wants: greenlets, threads, coroutines, and others go on."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import TimeoutError, wait
from pathlib import Path
from typing import Any

import gevent
import offloaded
import pytest

from green_router import offload

pytestmark = pytest.mark.usefixtures("engines")

PROCESSES = "processes:2"

BOTH = pytest.mark.parametrize("engine", ["threads:2", PROCESSES])


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
