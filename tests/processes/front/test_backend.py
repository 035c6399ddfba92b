"""A worker as the dispatcher sees it: what it has in hand, and what became of that."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from scripted_workers import SOON, Rig

from green_router.errors import HandlerTimeout, PeerGone, ServerStopped
from green_router.messages.request import Request
from green_router.processes.channel.protocol import Routes
from green_router.processes.channel.stream import Channel
from green_router.processes.front.backend import Assignment, Backend
from green_router.testing import eventually


class Alone:
    """A backend without a server. Attributes: its other end, a socket that nobody reads; ``active``
    and ``recycled``, how often it has said so."""

    def __init__(self) -> None:
        ours, self.other = socket.socketpair()
        self.active = self.recycled = 0
        self.channel = Channel(ours.detach(), lambda batch: None, lambda: None)
        self.backend = Backend(7, self.channel, Routes(), self._keep_active, 3, self._recycle)

    def _keep_active(self) -> None:
        self.active += 1

    def _recycle(self) -> None:
        self.recycled += 1

    def given(self, key: int) -> Assignment:
        """A request that it was given."""
        request = Request([b"peer", b"", b"x"], 2, 0.0, None, None)  # type: ignore[arg-type]
        assignment = Assignment(request, self.backend, key, 0)
        self.backend.assignments[key] = assignment
        self.backend.ledger.received += 1
        return assignment

    def hears(self, count: int) -> list[Any]:
        """The next so many messages that the worker is told."""
        heard: list[Any] = []
        channel = Channel(self.other.detach(), heard.extend, lambda: None)
        try:
            return eventually(lambda: heard if len(heard) >= count else None)  # type: ignore[no-any-return]
        finally:
            channel.close()


@pytest.fixture
def alone() -> Iterator[Alone]:
    one = Alone()
    yield one
    one.channel.close()
    one.other.close()


# -- what it has in hand ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "fate", "seconds"),
    [
        (HandlerTimeout(2.5), "timed_out", 2.5),
        (PeerGone(), "peer_gone", None),
        (ServerStopped(), "abandoned", None),
        (KeyboardInterrupt(), "abandoned", None),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else None,
)
def test_a_handler_that_is_ended_elsewhere_has_its_fate_and_counts_until_it_has_ended(
    alone: Alone, error: BaseException, fate: str, seconds: float | None
) -> None:
    alone.given(11)
    ended = alone.given(12)
    ended.throw(error)
    backend = alone.backend
    assert (list(backend.assignments), backend.ending, backend.busy) == ([11], {12}, 2)
    row = backend.snapshot()
    assert {name: count for name, count in row["fates"].items() if count} == {fate: 1}
    assert (row["received"], row["in_flight"], row["waiting"]) == (2, 1, 0)
    assert alone.hears(1) == [("end", 12, seconds)]


def test_a_handler_is_ended_once(alone: Alone) -> None:
    """And one that it never had is none."""
    ended = alone.given(1)
    for _ in range(3):
        ended.throw(PeerGone())
    alone.backend.give_up(99, 0)
    assert alone.active == 1
    assert alone.backend.snapshot()["fates"]["peer_gone"] == 1
    assert alone.hears(1) == [("end", 1, None)]


def test_what_is_asked_of_its_on_error_is_in_hand_too(alone: Alone) -> None:
    alone.given(1)
    alone.backend.on_error_calls[5] = object()
    assert alone.backend.busy == 2
    assert alone.backend.snapshot()["in_flight"] == 1  # which is no request


# -- what it is told -------------------------------------------------------------------------------


def test_a_worker_that_does_not_read_makes_nobody_wait(alone: Alone) -> None:
    """It may be stopped, or its loop blocked: what it is told is kept, in order, and it is watched
    from the first message on."""
    batches = [[(number, 2, 0.0, [bytes(100_000)], None, None)] for number in range(50)]
    for batch in batches:
        alone.backend.send(batch)
    assert alone.active == 50
    assert alone.channel.waiting_bytes > 2_000_000
    assert [message[0] for message in alone.hears(50)] == list(range(50))


def test_a_worker_that_was_killed_is_told_nothing_and_that_is_no_error(alone: Alone) -> None:
    alone.given(1)
    ended = alone.given(2)
    alone.other.close()
    alone.backend.send([("ping", 1)])
    eventually(lambda: alone.channel.closed)
    ended.throw(PeerGone())
    assert alone.backend.snapshot()["fates"]["peer_gone"] == 1


def test_what_is_no_plain_data_is_not_sent_and_nobody_is_watched_for_it(alone: Alone) -> None:
    with pytest.raises(ValueError, match="unmarshallable"):
        alone.backend.send([("clear", object())])
    assert alone.active == 0
    alone.backend.send([("clear", 1)])
    assert alone.hears(1) == [("clear", 1)]


# -- how it leaves ---------------------------------------------------------------------------------


def test_one_that_has_done_its_share_has_no_limit_any_more(alone: Alone) -> None:
    assert alone.backend.limit == 3
    alone.backend.has_done_its_share()
    assert (alone.backend.limit, alone.recycled) == (None, 1)
    assert alone.backend.open, "whoever replaces it closes it"


@pytest.mark.parametrize("rest", ["assignments", "ending", "on_error_calls"])
def test_it_is_drained_once_when_it_is_closed_and_the_last_has_gone(
    alone: Alone, rest: str
) -> None:
    backend = alone.backend
    drained: list[bool] = []
    backend.tell_drained(lambda: drained.append(True))
    backend.check_drained()
    assert not drained, "it is open"
    held: Any = getattr(backend, rest)
    held.add(1) if isinstance(held, set) else held.update({1: object()})
    backend.close()
    backend.check_drained()
    assert not drained, "it has something in hand"
    held.clear()
    for _ in range(2):
        backend.check_drained()
    assert drained == [True]


def test_a_closed_backend_gets_nothing_and_says_when_it_is_empty(rig: Callable[..., Rig]) -> None:
    here = rig(handler_timeout=SOON)
    worker, other = here.worker(), here.worker()
    here.ask(b"1")
    drained: list[bool] = []
    here.front.dispatcher.retire(worker.backend, lambda: drained.append(True))
    here.ask(b"2", b"3")
    assert (worker.requests(), other.requests()) == ([b"1"], [b"2", b"3"])
    key = worker.take("end")[1]
    assert drained == []
    worker.say(("ended", key))
    assert drained == [True]


def test_that_a_worker_has_done_its_share_is_told_once(rig: Callable[..., Rig]) -> None:
    here = rig()
    told: list[bool] = []
    here.worker(limit=3, recycle=lambda: told.append(True))
    here.ask(b"1", b"2")
    assert told == []
    here.ask(b"3", b"4", b"5")
    eventually(lambda: told)
    assert told == [True]
