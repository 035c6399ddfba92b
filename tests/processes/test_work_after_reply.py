"""Work that a handler does after its reply: a stop waits for it, a replaced worker finishes it, and
what is cut off is named."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable

import pytest

from .conftest import DISPATCH, Service, alive, ready

AFTER_THE_REPLY = """
import os, gevent
def handle_request(request):
    request.reply(b"%d" % os.getpid())
    if request.data == b"accept":
        while not os.path.exists("go on"):
            gevent.sleep(0.01)
        open("done", "w").close()
"""

ALL_WAYS = pytest.mark.parametrize(
    "options",
    [[], ["--workers", "1"], ["--workers", "1", "--dispatch", "direct"]],
    ids=["one process", "front", "direct"],
)


@ALL_WAYS
def test_a_stop_waits_for_it(service: Callable[..., Service], options: list[str]) -> None:
    server = service(AFTER_THE_REPLY, *options)
    server.ask(b"accept")
    server.signal(signal.SIGTERM)
    server.running.err.until("SIGTERM: draining")
    time.sleep(0.3)  # long enough for it to end, as it did
    assert server.running.process.poll() is None
    server.line.write("go on", "")
    assert server.running.ends() == 0
    assert (server.line.directory / "done").exists()
    assert not any("cut off" in line for line in server.running.err.rest())


@ALL_WAYS
def test_it_is_cut_off_after_grace_and_named(
    service: Callable[..., Service], options: list[str]
) -> None:
    server = service(AFTER_THE_REPLY, *options, "--grace", "0.3")
    server.ask(b"accept")
    log = server.stop()
    assert any(
        "stopping: cut off 1 of handle_request at work after the reply, the oldest on <Request"
        in line
        for line in log
    )
    assert not (server.line.directory / "done").exists()


@ALL_WAYS
def test_a_second_signal_cuts_it_off_at_once(
    service: Callable[..., Service], options: list[str]
) -> None:
    server = service(AFTER_THE_REPLY, *options)
    server.ask(b"accept")
    server.signal(signal.SIGTERM)
    server.running.err.until("SIGTERM: draining")
    log = server.stop()
    assert any("stopping: cut off 1 of handle_request" in line for line in log)


@DISPATCH
def test_a_worker_that_is_replaced_finishes_it(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(AFTER_THE_REPLY, "--workers", "1", "--dispatch", dispatch)
    old = int(server.ask(b"accept"))
    server.signal(signal.SIGHUP)
    server.wait_for(
        lambda stats: any(row["state"] == "ready" and row["pid"] != old for row in stats["workers"])
    )
    time.sleep(0.3)
    assert alive(old)
    server.line.write("go on", "")
    server.wait_for(ready(1, [old]))
    assert (server.line.directory / "done").exists()
    assert not any("cut off" in line for line in server.stop())


@DISPATCH
def test_one_that_takes_longer_than_worker_grace_is_cut_off(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(
        AFTER_THE_REPLY, "--workers", "1", "--dispatch", dispatch, "--worker-grace", "0.3"
    )
    old = int(server.ask(b"accept"))
    server.signal(signal.SIGHUP)
    server.wait_for(ready(1, [old]))
    assert any("stopping: cut off 1 of handle_request" in line for line in server.stop())
