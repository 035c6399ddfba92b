"""When the loop of a worker says that it is idle, and that it is active again; what a supervisor
makes of that is in supervisor/test_liveness.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.monkey import get_original

from green_router.processes.worker.activity import Activity
from green_router.testing import DEADLINE

start_new_thread = get_original("_thread", "start_new_thread")


class Loop:
    """This loop, and a file descriptor and a watcher of it. Attributes: said, what its activity has
    said, and ``woken``, where something has woken it."""

    def __init__(self, stack: ExitStack) -> None:
        self.said: list[str] = []
        self.at_idle: Callable[[], object] = lambda: None
        self.activity = Activity(self._say)
        stack.callback(self.activity.disarm)
        self._over = Event()
        loop = gevent.get_hub().loop
        self.reading, self.writing = os.pipe()
        for fd in (self.reading, self.writing):
            stack.callback(os.close, fd)
        self.readable, self.rung = loop.io(self.reading, 1), loop.async_()
        for watcher in (self.readable, self.rung):
            stack.callback(watcher.close)
            watcher.start(self.wakes)

    def _say(self, message: tuple[Any, ...]) -> None:
        self.said.append(message[0])
        if message[0] == "idle":
            self.at_idle()

    def wakes(self) -> None:
        """What wakes it."""
        self.readable.stop()
        self.said.append("woken")
        self._over.set()

    def waits(self) -> None:
        """Until it has been woken."""
        self._over.clear()
        assert self._over.wait(DEADLINE)


@pytest.fixture
def loop() -> Iterator[Loop]:
    with ExitStack() as stack:
        yield Loop(stack)


def turns(count: int = 10) -> None:
    """Let the loop turn so often, and run whatever is ready."""
    for _ in range(count):
        gevent.sleep(0)
        gevent.idle()


def test_nothing_is_said_unless_somebody_asks(loop: Loop) -> None:
    turns()
    gevent.sleep(0.001)
    assert loop.said == []


WAKERS: dict[str, Callable[[Loop], object]] = {
    "a descriptor": lambda loop: os.write(loop.writing, b"x"),
    "a timer": lambda loop: gevent.spawn_later(0.001, loop.wakes),
    "another thread": lambda loop: start_new_thread(loop.rung.send, ()),
}


@pytest.mark.parametrize("waker", WAKERS)
def test_whatever_wakes_it_finds_that_it_is_active(loop: Loop, waker: str) -> None:
    """That is said first: what woke it may not give way any more."""
    loop.at_idle = lambda: WAKERS[waker](loop)
    loop.activity.asked()
    loop.waits()
    assert loop.said == ["idle", "active", "woken"]


def test_it_is_said_once_for_each_time_that_it_is_asked(loop: Loop) -> None:
    loop.activity.asked()
    loop.activity.asked()
    for _ in range(3):
        gevent.sleep(0.001)
    assert loop.said == ["idle", "active"]
    loop.activity.asked()
    gevent.sleep(0.001)
    assert loop.said == ["idle", "active"] * 2


def test_a_loop_that_has_something_to_do_is_not_idle(loop: Loop) -> None:
    busy = gevent.spawn(lambda: [gevent.sleep(0) for _ in iter(int, 1)])
    loop.activity.asked()
    for _ in range(50):
        gevent.sleep(0)
    assert loop.said == []
    busy.kill()
    gevent.sleep(0.001)
    assert loop.said == ["idle", "active"]


@pytest.mark.parametrize("when", ["asked", "idle"])
def test_a_child_that_was_forked_says_nothing(loop: Loop, when: str) -> None:
    """Whoever asked has asked another process."""
    if when == "idle":
        loop.at_idle = loop.activity.disarm
    loop.activity.asked()
    if when == "asked":
        loop.activity.disarm()
    gevent.sleep(0.001)
    turns()
    assert loop.said == (["idle"] if when == "idle" else [])
