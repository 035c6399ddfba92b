"""One request whose client has gone: settled, left to its handler, or its handler ended. When that
is noticed, and what clients see, is in test_disconnects.py."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPool

from green_router.errors import PeerGone
from green_router.messages.in_flight import InFlight
from green_router.messages.ledger import PEER_GONE
from green_router.messages.request import Request
from green_router.serving.departures import Departures, has_departed
from green_router.serving.mailbox import Mailbox
from green_router.settings import Settings


class Holder:
    """Who has a request in hand. Attributes: thrown, what has ended it."""

    running = False

    def __init__(self, request: Request, put_off: bool) -> None:
        self.request, self.put_off = request, put_off
        self.thrown: list[BaseException] = []

    def throw(self, error: BaseException) -> None:
        self.thrown.append(error)


class Rig:
    """Departures and their neighbours."""

    def __init__(self, **settings: Any) -> None:
        self.failed: list[BaseException] = []
        self.in_flight, self.mailbox = InFlight(), Mailbox(self.failed.append)
        self.departures = Departures(Settings(**settings), self.in_flight, self.mailbox)

    def request(self) -> Request:
        origin, server = SimpleNamespace(get=lambda name: f"{name} of it"), None
        return Request([b"peer", b"", b"x"], 2, 0.0, origin, server)  # type: ignore[arg-type]

    def held(self, put_off: bool) -> tuple[Request, Holder]:
        """An open request, and who has it."""
        request = self.request()
        holder: Any = Holder(request, put_off)
        self.in_flight.open[id(request)] = holder
        return request, holder

    def mail(self) -> list[Any]:
        """What has been put; callbacks are called, as the owner does."""
        mail = []
        while not self.mailbox.empty():
            mail.append(self.mailbox.get())
            if callable(mail[-1]):
                mail.pop()()
        gevent.idle()
        return mail


def test_a_request_says_that_its_connection_has_ended_and_what_is_known_of_it_still() -> None:
    rig = Rig()
    request = rig.request()
    assert not has_departed(request)
    for _ in range(2):
        rig.departures.mark(request)
    assert has_departed(request)
    assert request.origin.get("Peer-Address") == "Peer-Address of it"
    pool = ThreadPool(1)
    try:
        assert pool.apply(has_departed, (request,))
    finally:
        pool.kill()
    assert rig.mail() == []


def test_one_that_is_no_more_is_kept_in_no_table() -> None:
    rig = Rig()
    request = rig.request()
    rig.departures.mark(request)
    assert rig.departures.departed.keys() == {id(request)}
    del request
    gc.collect()
    assert not rig.departures.departed


def test_one_that_no_handler_has_had_is_settled() -> None:
    rig = Rig()
    request = rig.request()
    rig.departures.drop(request)
    assert rig.mail() == [(request, None, PEER_GONE)]
    assert has_departed(request)


@pytest.mark.parametrize("cancels", [True, False])
def test_one_that_was_put_off_is_settled_and_what_waits_for_it_ended(cancels: bool) -> None:
    rig = Rig(cancel_on_disconnect=cancels)
    request, holder = rig.held(put_off=True)
    for _ in range(2):
        rig.departures.settle(request)
    assert rig.mail() == [(request, None, PEER_GONE)]
    assert not rig.in_flight.owes(request)
    assert list(map(type, holder.thrown)) == [PeerGone]


def test_a_handler_that_runs_goes_on() -> None:
    """And may still be the one that settles it."""
    rig = Rig()
    request, holder = rig.held(put_off=False)
    rig.departures.settle(request)
    assert (rig.mail(), holder.thrown) == ([], [])
    assert has_departed(request)
    assert rig.in_flight.claim(request)


def test_a_handler_that_runs_is_ended_where_that_is_wanted() -> None:
    rig = Rig(cancel_on_disconnect=True)
    request, holder = rig.held(put_off=False)
    rig.departures.settle(request)
    assert rig.mail() == [(request, None, PEER_GONE)]
    assert list(map(type, holder.thrown)) == [PeerGone]


@pytest.mark.parametrize("put_off", [True, False])
def test_one_that_is_settled_already_is_not_settled_again(put_off: bool) -> None:
    rig = Rig(cancel_on_disconnect=True)
    request, holder = rig.held(put_off)
    rig.in_flight.claim(request)
    rig.departures.settle(request)
    assert (rig.mail(), holder.thrown) == ([], [])


def test_a_handler_that_puts_off_what_nobody_waits_for_any_more_is_told() -> None:
    rig = Rig()
    request, holder = rig.held(put_off=False)
    assert not rig.departures.put_off(request), "its client is there"
    rig.departures.settle(request)
    assert rig.departures.put_off(request)
    assert rig.mail() == [(request, None, PEER_GONE)]
    assert holder.thrown == [], "it has returned by itself"


def test_what_a_handler_has_left_to_a_future_ends_with_it() -> None:
    rig = Rig()
    request, _ = rig.held(put_off=False)
    rig.departures.settle(request)
    future: Any = Holder(request, put_off=True)
    rig.in_flight.elsewhere[id(request)] = future
    assert rig.departures.put_off(request)
    assert rig.mail() == [(request, None, PEER_GONE)]
    assert list(map(type, future.thrown)) == [PeerGone]
