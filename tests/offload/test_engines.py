"""Engines are found by their names, and what is offloaded is a handler, or a part of one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gevent
import offloaded
import pytest

from green_router import ConfigError, StateError, offload
from green_router.offload.engines import ENGINES
from green_router.testing import RunningServer, eventually

pytestmark = pytest.mark.usefixtures("engines")

Serve = Callable[..., RunningServer]

PROCESSES = "processes:2"

BOTH = pytest.mark.parametrize("engine", ["threads:2", PROCESSES])


def test_a_decorated_function_knows_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StateError, match="green-router serve --offload processes:8"):
        offloaded.decorated(4)
    monkeypatch.setattr(ENGINES, "default", PROCESSES)
    assert offloaded.decorated(4).result() == 8


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
