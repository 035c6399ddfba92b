"""A handler that blocks the loop is named, and none that waits."""

from __future__ import annotations

import logging
import time

import gevent
import gevent.event
import pytest

from green_router.testing import eventually


def blocks_the_loop(request):
    if request.data == b"later":
        gevent.sleep(0.3)
    until = time.monotonic() + 0.5
    while time.monotonic() < until:
        pass
    return b"done"


@pytest.mark.parametrize("when", [b"now", b"later"])
def test_a_handler_that_blocks_the_loop_is_named(serve, caplog, when):
    caplog.set_level(logging.WARNING)
    server = serve(blocks_the_loop, block_warning=0.1)
    assert server.ask(when) == b"done"
    eventually(lambda: "turns again" in caplog.text)
    warning = caplog.records[0].getMessage()
    assert "blocks_the_loop blocks the loop" in warning
    assert "while time.monotonic() < until" in warning
    assert when.hex() in warning
    assert "s old" in warning
    assert caplog.text.count("blocks the loop") == 1


def test_the_watchdog_says_nothing_of_handlers_that_wait(serve, caplog):
    server = serve(lambda request: gevent.sleep(1.2) or b"done", block_warning=1)
    assert server.ask(b"x") == b"done"
    assert not caplog.records
