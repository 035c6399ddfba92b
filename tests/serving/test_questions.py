"""Requests whose handlers were not ready: what says so, and who holds them meanwhile. When they are
asked again is in test_asking.py."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

from green_router.messages.in_flight import InFlight
from green_router.messages.request import Request
from green_router.serving.questions import Asked, Questions, is_pending, tick_of


class Pair(NamedTuple):
    """A tuple of a class of its own."""

    client_id: bytes
    data: bytes


class Nothing(tuple[()]):
    """An empty one."""

    __slots__ = ()


class FalseLooking:
    """What is false, and no answer that says so."""

    def __bool__(self) -> bool:
        return False

    __len__ = __eq__ = None  # type: ignore[assignment]
    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("result", [None, False, (), Nothing()], ids=repr)
def test_what_says_not_ready(result: object) -> None:
    assert is_pending(result)


@pytest.mark.parametrize(
    "result",
    [True, 0, 0.0, b"", "", [], {}, (None,), (b"id", b""), Pair(b"id", b""), FalseLooking()],
    ids=lambda value: type(value).__name__ + (repr(value) if isinstance(value, tuple) else ""),
)
def test_what_does_not(result: object) -> None:
    """An empty reply is a reply; what is wrong is told as wrong, and not asked again for ever."""
    assert not is_pending(result)


@pytest.mark.parametrize(
    ("now", "tick"), [(0.0, 0), (0.0009, 0), (0.001, 1), (12.3456, 12345), (1e9, 10**12)]
)
def test_a_tick_is_a_whole_millisecond(now: float, tick: int) -> None:
    assert tick_of(now) == tick


class Asking:
    """The asking of a handler, which notes what it is told."""

    over, said = False, 0

    def __init__(self) -> None:
        self.told: list[Any] = []

    def begin(self, asked: Asked, said: int) -> None:
        self.told.append(("begin", asked, said))

    def forget(self, asked: Asked) -> None:
        self.told.append(("forget", asked))

    def close(self) -> None:
        self.told.append("close")


class Greenlet:
    """The greenlet of a handler. Attributes: gr_frame, None while it runs; thrown."""

    def __init__(self, gr_frame: object) -> None:
        self.gr_frame, self.thrown = gr_frame, list[BaseException]()

    def throw(self, error: BaseException) -> None:
        self.thrown.append(error)


def requested() -> Request:
    server: Any = None
    return Request([b"peer", b"", b"x"], 2, 1.5, None, server)


def test_one_that_waits_is_put_off_and_is_forgotten_where_it_is_ended() -> None:
    asking, request = Asking(), requested()
    asked = Asked(asking, request, said=4)
    assert (asked.request, asked.born) == (request, 1500)
    assert (asked.running, asked.put_off) == (False, True)
    asked.wait()
    asked.throw(TimeoutError())
    asked.end()
    assert asking.told == [("begin", asked, 4), ("forget", asked), ("forget", asked)]


@pytest.mark.parametrize("runs", [True, False])
def test_one_whose_handler_is_being_asked_is_ended_by_what_is_thrown_into_it(runs: bool) -> None:
    asking = Asking()
    asked = Asked(asking, requested(), 0)
    greenlet: Any = Greenlet(None if runs else object())
    asked.greenlet = greenlet
    assert (asked.running, asked.put_off) == (runs, False)
    error = TimeoutError()
    asked.throw(error)
    assert greenlet.thrown == [error]
    assert asking.told == []


@pytest.mark.parametrize("name", ["context", "greenlet", "request", "waiter"])
def test_one_that_is_held_by_what_it_holds_is_collected(name: str) -> None:
    asked, holder = Asked(Asking(), requested(), 0), Greenlet(None)
    setattr(asked, name, holder)
    holder.thrown.append(asked)  # type: ignore[arg-type]
    assert getattr(asked, name) is holder
    gone = weakref.ref(holder)
    del asked, holder
    gc.collect()
    assert gone() is None


def questions(in_flight: InFlight) -> Questions:
    nobody: Any = None
    return Questions(in_flight, nobody, nobody, nobody, nobody, nobody, nobody)


def test_those_that_wait_within_a_question_are_found_and_no_others() -> None:
    """Coroutines and futures are in the same table."""
    in_flight = InFlight()
    waits, within = (Asked(Asking(), requested(), 0) for _ in range(2))
    greenlet: Any = Greenlet(object())
    within.greenlet = greenlet
    others: Any = [waits, within, SimpleNamespace(greenlet=greenlet)]
    in_flight.elsewhere = dict(enumerate(others))
    found = questions(in_flight)
    assert list(found) == [within]
    for one in found:  # whoever ends one changes the table meanwhile
        in_flight.elsewhere.clear()
        assert one is within


def test_at_the_end_nobody_is_asked_any_more() -> None:
    asked_of, one, other = questions(InFlight()), Asking(), Asking()
    asked_of.known.update({"one": one, "other": other})
    for _ in range(2):
        asked_of.close()
    assert (one.told, other.told) == (["close"], ["close"])
    assert not asked_of.known


def test_a_child_that_was_forked_asks_nobody_and_ends_nothing_of_its_parents() -> None:
    asked_of, asking = questions(InFlight()), Asking()
    asked_of.known["one"] = asking
    asked_of.disarm()
    asked_of.close()
    assert asking.told == []
