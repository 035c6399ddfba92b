"""A latch: told once, to greenlets of any thread, and to threads without a hub."""

from __future__ import annotations

import threading

import gevent
import pytest
from gevent.hub import get_hub

from green_router.hub.latch import Latch
from green_router.testing import DEADLINE, eventually


def test_who_comes_later_does_not_wait():
    latch = Latch()
    assert not latch.wait(0.001)
    latch.set()
    latch.set()
    assert latch.wait()
    assert latch.done


def test_greenlets_wait_and_the_others_go_on():
    latch, woken = Latch(), []
    waiting = [gevent.spawn(lambda: woken.append(latch.wait())) for _ in range(10)]
    gevent.sleep(0)
    assert not woken
    latch.set()
    gevent.joinall(waiting, timeout=DEADLINE)
    assert woken == [True] * 10


def in_a_hub(latch):
    try:
        get_hub()
        return latch.wait(DEADLINE)
    finally:
        get_hub().destroy(destroy_loop=True)


@pytest.mark.parametrize(
    "wait", [in_a_hub, lambda latch: latch.wait(DEADLINE)], ids=["hub", "no hub"]
)
def test_other_threads_are_told(wait, open_files):
    before = open_files()
    latch, told = Latch(), []
    threads = [threading.Thread(target=lambda: told.append(wait(latch))) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(latch._wake) == 4)
    latch.set()
    for thread in threads:
        thread.join(DEADLINE)
    assert told == [True] * 4
    assert open_files() == before


def test_who_has_gone_holds_nobody_up():
    """A greenlet that was cut short, and one whose hub is destroyed while it waits."""
    latch = Latch()
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.001):
        latch.wait()
    assert not latch._wake

    def leave():
        gevent.spawn(latch.wait)
        gevent.sleep(0)
        get_hub().destroy(destroy_loop=True)

    thread = threading.Thread(target=leave)
    thread.start()
    thread.join(DEADLINE)
    assert len(latch._wake) == 1
    waiting = gevent.spawn(latch.wait)
    gevent.sleep(0)
    latch.set()
    assert waiting.get(timeout=DEADLINE)
