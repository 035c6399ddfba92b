"""The requests of a worker by their keys, and that the key of each that nobody can answer any more
is noted once."""

from __future__ import annotations

import gc
from typing import Any

import gevent
from gevent.threadpool import ThreadPool

from green_router.processes.worker.keyed import KeyedInFlight, KeyedRequest


class Holds:
    """A handler that has a request in hand."""

    running = put_off = False

    def __init__(self, request: KeyedRequest | None) -> None:
        self.request: Any = request

    def throw(self, error: BaseException) -> None:
        """It has none to end."""


def requested(key: int) -> KeyedRequest:
    request = KeyedRequest([b"peer", b"", b"x"], 2, 0.0, None, None)  # type: ignore[arg-type]
    request.key = key
    return request


def test_an_open_request_is_found_by_its_key() -> None:
    in_flight = KeyedInFlight()
    first, second = requested(7), requested(8)
    for request in (first, second):
        in_flight.open[id(request)] = Holds(request)
    assert in_flight.find(7) is first
    assert in_flight.find(8) is second
    assert in_flight.find(9) is None
    in_flight.claim(first)
    assert in_flight.find(7) is None


def test_one_that_waits_for_a_later_reply_is_found_as_long_as_somebody_has_it() -> None:
    in_flight, told = KeyedInFlight(), [0]
    request = requested(7)
    in_flight.open[id(request)] = Holds(None)
    in_flight.defer(request, lambda: told.append(len(in_flight.dropped)))
    assert in_flight.find(7) is request
    del request
    gc.collect()
    assert in_flight.find(7) is None
    assert not in_flight.open


def test_a_key_is_noted_before_it_is_told() -> None:
    """What is told makes the worker look for the key."""
    in_flight = KeyedInFlight()
    found: list[list[int]] = []
    for key in (7, 8):
        request = requested(key)
        in_flight.open[id(request)] = Holds(None)
        in_flight.defer(request, lambda: found.append(list(in_flight.dropped)))
    del request
    gc.collect()
    assert sorted(in_flight.dropped) == [7, 8]
    assert [len(keys) for keys in found] == [1, 2]


def test_no_key_is_noted_of_one_that_was_answered() -> None:
    in_flight = KeyedInFlight()
    request = requested(7)
    in_flight.open[id(request)] = Holds(None)
    in_flight.defer(request, lambda: in_flight.dropped.append(-1))
    assert in_flight.claim(request)
    del request
    gc.collect()
    assert not in_flight.dropped


def test_keys_are_noted_by_whichever_thread_drops_the_last_reference() -> None:
    in_flight, pool = KeyedInFlight(), ThreadPool(1)
    request = requested(7)
    in_flight.open[id(request)] = Holds(None)
    told: list[int] = []
    in_flight.defer(request, lambda: told.append(in_flight.dropped[-1]))
    kept = [request]
    del request
    try:
        pool.apply(kept.clear)
    finally:
        pool.kill()
        gevent.sleep(0)
    assert (list(in_flight.dropped), told) == ([7], [7])
