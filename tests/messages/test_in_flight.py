"""Law 6: one of all that try may reply, in any OS thread; and it is noticed when nobody can any
more.

Rules of this file
  1. Threads are real ones and start together; the interpreter switches between them as often as it
     can.
  2. A handler's greenlet is anything with a ``request``; here it is a plain object.
"""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from green_router.messages.in_flight import InFlight
from green_router.messages.request import Elsewhere, Request

THREADS = 8

REQUESTS = 2000


@dataclass
class Greenlet:
    """Who runs a handler."""

    request: Request | None = None


def request(received_at: float = 0.0) -> Request:
    return Request([b"id", b"", b"data"], 2, received_at, None, Elsewhere(0.0, None, {}))


def started(in_flight: InFlight, *times: float) -> list[Greenlet]:
    """Start a handler for a request of each of these times."""
    greenlets = [Greenlet(request(time)) for time in times]
    for greenlet in greenlets:
        in_flight.open[id(greenlet.request)] = greenlet
    return greenlets


@contextmanager
def switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def at_once(*works: Callable[[], None]) -> None:
    """Run each in an OS thread of its own, all from the same moment on; the first error of any is
    raised."""
    barrier = threading.Barrier(len(works))
    errors: list[BaseException] = []

    def run(work: Callable[[], None]) -> None:
        try:
            barrier.wait()
            work()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(work,)) for work in works]
    with switching_often():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


# -- claims ----------------------------------------------------------------------------------------


def test_the_first_claim_wins() -> None:
    in_flight = InFlight()
    (greenlet,) = started(in_flight, 0.0)
    assert greenlet.request
    assert in_flight.owes(greenlet.request)
    assert [in_flight.claim(greenlet.request) for _ in range(3)] == [True, False, False]
    assert not in_flight.owes(greenlet.request)
    assert len(in_flight) == 0


def test_what_was_never_started_cannot_be_claimed() -> None:
    in_flight = InFlight()
    started(in_flight, 0.0)
    assert not in_flight.claim(request())
    assert len(in_flight) == 1


def test_of_eight_threads_exactly_one_wins() -> None:
    in_flight = InFlight()
    requests = [
        greenlet.request
        for greenlet in started(in_flight, *map(float, range(REQUESTS)))
        if greenlet.request
    ]
    wins: list[list[int]] = [[] for _ in range(THREADS)]

    def claimer(mine: list[int]) -> Callable[[], None]:
        return lambda: mine.extend(
            number for number, each in enumerate(requests) if in_flight.claim(each)
        )

    at_once(*map(claimer, wins))
    assert sorted(number for mine in wins for number in mine) == list(range(REQUESTS))
    assert len(in_flight) == 0


# -- nobody can reply any more ---------------------------------------------------------------------


def test_a_request_that_nobody_kept_is_noticed_once() -> None:
    in_flight, dropped = InFlight(), []
    (greenlet,) = started(in_flight, 0.0)
    assert greenlet.request
    in_flight.defer(greenlet.request, lambda: dropped.append(len(in_flight)))
    assert dropped == []
    greenlet.request = None
    gc.collect()
    assert dropped == [0], "it has been claimed when that is called"


def test_a_request_that_somebody_keeps_stays_open() -> None:
    in_flight, dropped = InFlight(), []
    (greenlet,) = started(in_flight, 0.0)
    kept = greenlet.request
    assert kept
    in_flight.defer(kept, lambda: dropped.append(True))
    greenlet.request = None
    gc.collect()
    assert dropped == []
    assert in_flight.owes(kept)
    assert list(in_flight) == [kept]
    assert in_flight.claim(kept)
    kept = None
    gc.collect()
    assert dropped == [], "it has had its reply"


def test_one_that_is_kept_by_a_ring_of_objects_is_noticed_by_the_collector() -> None:
    in_flight, dropped = InFlight(), []
    (greenlet,) = started(in_flight, 0.0)
    assert greenlet.request
    in_flight.defer(greenlet.request, lambda: dropped.append(True))
    ring: list[object] = [greenlet.request]
    ring.append(ring)
    greenlet.request = None
    del ring
    gc.collect()
    assert dropped == [True]


def test_deferring_again_notices_once() -> None:
    """A future's result may be a future."""
    in_flight, dropped = InFlight(), []
    (greenlet,) = started(in_flight, 0.0)
    assert greenlet.request
    in_flight.defer(greenlet.request, lambda: dropped.append("first"))
    in_flight.defer(greenlet.request, lambda: dropped.append("second"))
    greenlet.request = None
    gc.collect()
    assert dropped == ["second"]


def test_a_new_request_at_the_same_place_is_not_taken_for_the_old_one() -> None:
    """Keys are ids, and ids are used again: at once, mostly."""
    in_flight, dropped = InFlight(), []
    ids = set()
    for round_ in range(100):
        (greenlet,) = started(in_flight, float(round_))
        assert greenlet.request
        ids.add(id(greenlet.request))
        assert list(in_flight) == [greenlet.request]
        in_flight.defer(greenlet.request, lambda: dropped.append(True))
        assert in_flight.owes(greenlet.request)
        if round_ % 2:
            assert in_flight.claim(greenlet.request)
        greenlet.request = None
        gc.collect(0)
        assert len(in_flight) == 0
    assert len(dropped) == 50
    assert len(ids) < 100, "no id was used twice: this test shows nothing"


def test_dropped_in_other_threads_is_noticed_once_for_each() -> None:
    in_flight, dropped = InFlight(), []
    shares: list[list[Request]] = [[] for _ in range(THREADS)]
    for number, greenlet in enumerate(started(in_flight, *map(float, range(REQUESTS)))):
        assert greenlet.request
        in_flight.defer(greenlet.request, lambda: dropped.append(True))
        shares[number % THREADS].append(greenlet.request)
        greenlet.request = None
    del greenlet
    at_once(*(share.clear for share in shares))
    gc.collect()
    assert len(dropped) == REQUESTS
    assert len(in_flight) == 0


# -- looking ---------------------------------------------------------------------------------------


def test_oldest_first_whether_the_handler_runs_or_has_returned() -> None:
    in_flight = InFlight()
    running, returned, answered, last = started(in_flight, 1.0, 2.0, 3.0, 4.0)
    kept = returned.request
    assert kept
    in_flight.defer(kept, lambda: None)
    returned.request = None
    assert answered.request
    in_flight.claim(answered.request)
    assert list(in_flight) == [running.request, kept, last.request]
    assert in_flight.oldest() is running.request
    assert len(in_flight) == 3


OVERDUE = [(0.5, []), (1.0, [1.0]), (2.5, [1.0, 2.0, 2.0]), (9.0, [1.0, 2.0, 2.0, 4.0])]


@pytest.mark.parametrize(("before", "times"), OVERDUE)
def test_overdue(before: float, times: list[float]) -> None:
    in_flight = InFlight()
    greenlets = started(in_flight, 1.0, 2.0, 2.0, 4.0)
    overdue = in_flight.overdue(before)
    assert [each.received_at for each in overdue] == times
    assert overdue == [greenlet.request for greenlet in greenlets][: len(times)]
    assert len(in_flight) == 4, "looking claims nothing"


def test_nothing_is_open() -> None:
    in_flight = InFlight()
    assert (list(in_flight), in_flight.oldest(), in_flight.overdue(1e9), len(in_flight)) == (
        [],
        None,
        [],
        0,
    )


def test_the_holder_is_who_still_runs_the_handler() -> None:
    in_flight = InFlight()
    (greenlet,) = started(in_flight, 1.0)
    mine = greenlet.request
    assert mine
    assert in_flight.holder(mine) is greenlet
    in_flight.defer(mine, lambda: None)
    greenlet.request = request(2.0)  # it has gone on to another one
    assert in_flight.holder(mine) is None
    assert in_flight.holder(request()) is None
    in_flight.claim(mine)
    assert in_flight.holder(mine) is None


def test_looking_while_other_threads_claim_finds_only_what_was_open() -> None:
    """And never fails: the deadlines look while replies come from anywhere."""
    in_flight = InFlight()
    requests = [
        greenlet.request
        for greenlet in started(in_flight, *map(float, range(REQUESTS)))
        if greenlet.request
    ]
    known = set(map(id, requests))
    shuffled = [Random(number).sample(requests, REQUESTS) for number in range(THREADS)]

    def look() -> None:
        while len(in_flight):
            seen = [each.received_at for each in in_flight]
            assert seen == sorted(set(seen))
            assert {id(each) for each in in_flight.overdue(REQUESTS / 2)} <= known
            in_flight.oldest()

    def claimer(mine: list[Request]) -> Callable[[], None]:
        def claim() -> None:
            for each in mine:
                in_flight.claim(each)

        return claim

    at_once(look, *map(claimer, shuffled))
    assert len(in_flight) == 0


# -- the law of it all -----------------------------------------------------------------------------


class InFlightMachine(RuleBasedStateMachine):
    """Against a plain list of who owes a reply, oldest first; ``dropped`` counts those that nobody
    can answer any more."""

    def __init__(self) -> None:
        super().__init__()
        self.in_flight = InFlight()
        self.running: list[Greenlet] = []  # their handlers run
        self.kept: list[Request] = []  # their handlers have returned, somebody has the request
        self.model: list[float] = []  # when each open request came: each has a time of its own
        self.now = 0.0
        self.dropped = self.lost = 0

    def owed(self, request: Request) -> bool:
        return request.received_at in self.model

    def settle(self, request: Request) -> None:
        assert self.in_flight.claim(request) is self.owed(request)
        assert not self.in_flight.claim(request)
        if self.owed(request):
            self.model.remove(request.received_at)

    @rule(seconds=st.sampled_from([0.5, 1.0, 3.0]))
    def start(self, seconds: float) -> None:
        self.now += seconds
        self.running += started(self.in_flight, self.now)
        self.model.append(self.now)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 20))
    def claim_one_that_runs(self, which: int) -> None:
        greenlet = self.running[which % len(self.running)]
        assert greenlet.request
        assert (self.in_flight.holder(greenlet.request) is greenlet) is self.owed(greenlet.request)
        self.settle(greenlet.request)

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 20))
    def claim_one_that_is_kept(self, which: int) -> None:
        request = self.kept[which % len(self.kept)]
        assert self.in_flight.holder(request) is None
        self.settle(request)

    @precondition(lambda self: self.running)
    @rule(which=st.integers(0, 20), kept=st.booleans())
    def a_handler_returns(self, which: int, kept: bool) -> None:
        """Somebody will answer what is open still, or nobody: then that is noticed, once."""
        greenlet = self.running.pop(which % len(self.running))
        request, greenlet.request = greenlet.request, None
        assert request
        if not self.owed(request):
            return
        self.in_flight.defer(request, self.noticed)
        if kept:
            self.kept.append(request)
        else:
            self.lose(request)

    @precondition(lambda self: self.kept)
    @rule(which=st.integers(0, 20))
    def forget(self, which: int) -> None:
        request = self.kept.pop(which % len(self.kept))
        if self.owed(request):
            self.lose(request)

    def lose(self, request: Request) -> None:
        self.model.remove(request.received_at)
        self.lost += 1

    def noticed(self) -> None:
        self.dropped += 1

    @invariant()
    def same_as_the_model(self) -> None:
        in_flight = self.in_flight
        assert len(in_flight) == len(self.model)
        assert self.dropped == self.lost
        assert [request.received_at for request in in_flight] == self.model
        oldest = in_flight.oldest()
        assert (oldest.received_at if oldest else None) == (self.model[0] if self.model else None)
        for before in (0.0, self.now - 2.0, self.now):
            assert [request.received_at for request in in_flight.overdue(before)] == [
                at for at in self.model if at <= before
            ]
        assert all(in_flight.owes(request) is self.owed(request) for request in self.kept)

    def teardown(self) -> None:
        """Whatever happened: once all are settled, nothing is held."""
        for request in [
            *self.kept,
            *(greenlet.request for greenlet in self.running if greenlet.request),
        ]:
            self.settle(request)
        request = None  # or this frame keeps the last of them
        self.kept.clear()
        self.running.clear()
        assert (len(self.in_flight), self.in_flight._deferred) == (0, {})


TestInFlight = InFlightMachine.TestCase
TestInFlight.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)
