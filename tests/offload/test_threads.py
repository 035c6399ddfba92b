"""Calls in native threads: so many at a time, in order, and an end to it."""

from __future__ import annotations

import sys
from _thread import get_ident
from concurrent.futures import CancelledError

import gevent
import pytest
from gevent.monkey import get_original

from green_router import StateError
from green_router.offload.threads import Threads
from green_router.testing import DEADLINE, eventually

NativeEvent = get_original("threading", "Event")


def test_there_are_no_more_threads_than_that_and_only_when_they_are_needed() -> None:
    """Two wait for each other; a third call has one of them later."""
    threads = Threads(2)
    assert threads.submit(get_ident).result(DEADLINE) != get_ident()
    met = [NativeEvent(), NativeEvent()]

    def meet(mine: int) -> int:
        met[mine].set()
        assert met[1 - mine].wait(DEADLINE)
        return get_ident()

    two = {future.result(DEADLINE) for future in [threads.submit(meet, 0), threads.submit(meet, 1)]}
    assert len(two) == 2
    assert {threads.submit(get_ident).result(DEADLINE) for _ in range(10)} <= two
    threads.shutdown()


def test_one_thread_makes_calls_in_their_order() -> None:
    threads, made = Threads(1), []
    futures = [threads.submit(made.append, number) for number in range(100)]
    for future in futures:
        future.result(DEADLINE)
    assert made == list(range(100))
    threads.shutdown()


def test_what_was_taken_is_done_before_the_end_and_nothing_is_taken_after_it() -> None:
    threads, gate = Threads(1), NativeEvent()
    begun, behind = threads.submit(gate.wait, DEADLINE), threads.submit(len, b"four")
    ending = gevent.spawn(threads.shutdown)
    gevent.sleep(0)
    with pytest.raises(StateError):
        threads.submit(len, b"")
    gate.set()
    ending.get(timeout=DEADLINE)
    assert (begun.result(), behind.result()) == (True, 4)


def test_what_has_not_begun_is_cancelled_where_that_is_said() -> None:
    threads, gate = Threads(1), NativeEvent()
    begun, behind = threads.submit(gate.wait, DEADLINE), threads.submit(len, b"four")
    eventually(begun.running)
    threads.shutdown(wait=False, cancel_futures=True)
    with pytest.raises(CancelledError):
        behind.result(DEADLINE)
    gate.set()
    assert begun.result(DEADLINE)


def test_what_is_raised_ends_its_call_and_no_thread() -> None:
    threads = Threads(1)
    with pytest.raises(SystemExit):
        threads.submit(sys.exit).result(DEADLINE)
    assert threads.submit(len, b"four").result(DEADLINE) == 4
    threads.shutdown()
