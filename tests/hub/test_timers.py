"""Timers that repeat: the same calls, with a descriptor of the system or of the loop."""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterator
from typing import Any

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub

from green_router.hub import timers
from green_router.hub.timers import DescriptorTimer, LoopTimer, repeating_timer
from green_router.testing import DEADLINE, FakeClock, eventually

has_descriptors = pytest.mark.skipif(
    timers._libc is None, reason="this system's timers have no descriptors"
)

KINDS = [LoopTimer, pytest.param(DescriptorTimer, marks=has_descriptors)]
LONG = 1000.0


class Counted:
    """A timer, and how often it has fired.

    Attributes:
        timer, count: likewise.
    """

    def __init__(self, make: Callable[..., Any]) -> None:
        self.count, self._enough, self._changed = 0, 0, Event()
        self.timer = make(get_hub().loop, self._fire)

    def _fire(self) -> None:
        self.count += 1
        if self.count >= self._enough:
            self._changed.set()

    def wait(self, more: int) -> None:
        """Wait until it has fired so often again."""
        self._enough = self.count + more
        self._changed.clear()
        assert self._changed.wait(DEADLINE)


@pytest.fixture(params=KINDS)
def counted(request: pytest.FixtureRequest) -> Iterator[Counted]:
    made = Counted(request.param)
    yield made
    made.timer.close()


def settle() -> None:
    """Let the loop poll a few times."""
    for _ in range(3):
        gevent.sleep(0.002)


def test_it_fires_again_and_again(counted: Counted) -> None:
    counted.timer.repeat(0.001)
    counted.wait(5)


def test_it_does_not_before_it_is_set(counted: Counted) -> None:
    settle()
    assert counted.count == 0


def test_it_is_set_anew(counted: Counted) -> None:
    counted.timer.repeat(LONG)
    settle()
    assert counted.count == 0
    counted.timer.repeat(0.001)
    counted.wait(2)
    counted.timer.repeat(LONG)
    before = counted.count
    settle()
    assert counted.count == before


@pytest.mark.parametrize("end", ["stop", "close"])
def test_it_ends(counted: Counted, end: str) -> None:
    """Twice is once; and only what was stopped begins again."""
    counted.timer.repeat(0.001)
    counted.wait(1)
    for _ in range(2):
        getattr(counted.timer, end)()
    before = counted.count
    settle()
    assert counted.count == before
    counted.timer.repeat(0.001)
    if end == "stop":
        counted.wait(2)
    else:
        settle()
        assert counted.count == before
        counted.timer.stop()


@pytest.mark.parametrize("kind", KINDS)
def test_it_may_end_itself(kind: Any) -> None:
    calls: list[None] = []
    timer = kind(get_hub().loop, lambda: (calls.append(None), timer.close()))
    timer.repeat(0.001)
    eventually(lambda: calls)
    settle()
    assert len(calls) == 1


@has_descriptors
def test_one_that_was_set_anew_since_the_loop_has_looked_does_not_fire() -> None:
    """The descriptor of one is readable; before its watcher is called, it begins anew."""
    late, other = Counted(DescriptorTimer), Counted(DescriptorTimer)
    late.timer.repeat(0.001)
    late.wait(1)
    late.timer.repeat(LONG)
    late.timer._fired()
    assert late.count == 1
    late.timer.close()
    other.timer.close()


@has_descriptors
def test_a_descriptor_is_closed_with_it() -> None:
    timer = DescriptorTimer(get_hub().loop, lambda: None)
    descriptor = timer._descriptor
    os.fstat(descriptor)
    timer.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(descriptor)


@has_descriptors
def test_a_forked_child_that_closes_it_leaves_the_parents_alone(counted: Counted) -> None:
    counted.timer.repeat(0.001)
    child = os.fork()
    if not child:
        try:
            counted.timer.close()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    counted.wait(3)


@has_descriptors
def test_the_loops_own_serves_where_no_descriptor_is_left() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = os.dup(0)
    os.close(used)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used, hard))
    try:
        timer = repeating_timer(get_hub().loop, lambda: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert isinstance(timer, LoopTimer)
    timer.close()


def test_the_loops_own_serves_on_a_clock_of_a_test() -> None:
    with FakeClock() as clock:
        made = Counted(repeating_timer)
        assert isinstance(made.timer, LoopTimer)
        made.timer.repeat(10.0)
        clock.advance(35)
        assert made.count == 3
        made.timer.close()


def test_the_most_exact_one_serves() -> None:
    timer = repeating_timer(get_hub().loop, lambda: None)
    assert isinstance(timer, LoopTimer if timers._libc is None else DescriptorTimer)
    timer.close()


@has_descriptors
def test_where_the_loop_fails_no_descriptor_is_left() -> None:
    class Broken:
        def io(self, descriptor: int, events: int) -> None:
            descriptors.append(descriptor)
            raise ValueError("no watcher")

    descriptors: list[int] = []
    with pytest.raises(ValueError, match="no watcher"):
        DescriptorTimer(Broken(), bool)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(*descriptors)
