"""Time that passes when a test says so: for sleeps, timeouts and timers, and for nothing else."""

from __future__ import annotations

import time

import gevent
import pytest
from gevent.event import Event
from gevent.hub import get_hub
from gevent.threadpool import ThreadPool

from green_router.serving import overload
from green_router.testing import FakeClock, run_until_idle
from green_router.testing.clock import Switches


def test_time_passes_only_when_it_is_advanced() -> None:
    with FakeClock() as clock:
        before = clock.now
        sleeper = gevent.spawn(gevent.sleep, 10)
        clock.advance(9.999)
        assert not sleeper.ready()
        clock.advance(0.001)
        assert sleeper.ready()
        assert clock.now == pytest.approx(before + 10)
        assert clock.fired == 1


def test_what_is_due_happens_in_order_and_each_at_its_time() -> None:
    with FakeClock() as clock:
        start, seen = clock.now, list[tuple[str, float]]()
        for name, seconds in (("c", 3), ("a", 1), ("b", 2)):
            gevent.spawn_later(seconds, lambda name=name: seen.append((name, clock.now - start)))
        clock.advance(10)
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert [at for _, at in seen] == pytest.approx([1, 2, 3])


def test_what_a_timer_sets_off_is_over_before_the_next() -> None:
    """Also where it takes several greenlets, and where it sets a timer of its own."""
    with FakeClock() as clock:
        said, event = list[str](), Event()

        def chain() -> None:
            said.append("first")
            event.set()
            gevent.sleep(0.5)
            said.append("its own")

        def waits() -> None:
            event.wait()
            said.append("woken")

        gevent.spawn(waits)
        gevent.spawn_later(1, chain)
        gevent.spawn_later(1.2, said.append, "second")
        clock.advance(2)
    assert said == ["first", "woken", "second", "its own"]


def test_timeouts_go_by_it() -> None:
    with FakeClock() as clock:

        def limited() -> bool:
            with gevent.Timeout(5, False):  # type: ignore[arg-type]
                Event().wait()
            return True

        waiting = gevent.spawn(limited)
        clock.advance(4)
        assert not waiting.ready()
        clock.advance(1)
        assert waiting.get(block=False) is True


def test_a_timer_that_repeats_does_so_until_it_is_stopped() -> None:
    with FakeClock() as clock:
        timer, ticks = get_hub().loop.timer(1.0, 2.0), list[float]()
        start = clock.now
        timer.start(lambda: ticks.append(clock.now - start))
        assert timer.active
        clock.advance(6)
        assert ticks == pytest.approx([1, 3, 5])
        timer.close()
        assert not timer.active
        clock.advance(100)
        assert len(ticks) == 3
        timer.again(lambda: ticks.append(0.0))
        clock.advance(2)
        assert len(ticks) == 4
        timer.stop()
        timer.stop()


def test_modules_of_this_package_have_its_time_and_nobody_else() -> None:
    real = time.monotonic
    with FakeClock() as clock:
        assert overload.monotonic() == clock.now
        clock.advance(1000)
        assert overload.monotonic() == clock.now
        assert time.monotonic is real
        assert time.monotonic() < clock.now
    assert overload.monotonic is real


def test_afterwards_all_is_as_it_was_also_after_an_error() -> None:
    loop = get_hub().loop

    def breaks() -> None:
        with FakeClock():
            assert get_hub().loop is not loop
            raise LookupError

    with pytest.raises(LookupError):
        breaks()
    assert get_hub().loop is loop
    assert overload.monotonic is time.monotonic
    gevent.sleep(0.001)


def test_a_turn_of_the_loop_takes_no_time() -> None:
    """A sleep of zero seconds asks for a turn; another OS thread takes none either."""
    pool = ThreadPool(1)
    try:
        with FakeClock() as clock:
            before = clock.now
            for _ in range(100):
                gevent.sleep(0)
            assert pool.apply(int, ("7",)) == 7
            assert (clock.now, clock.fired) == (before, 0)
    finally:
        pool.kill()


# -- at rest ---------------------------------------------------------------------------------------


def test_it_waits_until_nothing_happens_any_more() -> None:
    done: list[int] = []

    def passes_on(left: int) -> None:
        if left:
            gevent.spawn(passes_on, left - 1)
        done.append(left)

    gevent.spawn(passes_on, 200)
    run_until_idle()
    assert len(done) == 201


def test_switches_are_counted_beside_whoever_counts_already() -> None:
    with Switches() as outer:
        gevent.sleep(0)
        with Switches() as inner:
            for _ in range(3):
                gevent.sleep(0)
        before = sum(outer.by_target.values())
        gevent.sleep(0)
    hub = get_hub()
    assert inner.by_target[hub] == 3
    assert outer.by_target[hub] == 5
    assert sum(outer.by_target.values()) > before
    gevent.sleep(0)
    assert outer.by_target[hub] == 5
