"""How a request gets its fate: who claims it first settles it, and nobody else does; what handlers
return is in test_results.py."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import gevent
import pytest
from gevent.threadpool import ThreadPool

from green_router.errors import BadReply, WrongProcess
from green_router.messages.in_flight import InFlight
from green_router.messages.ledger import ANSWERED, FAILED, LATE, STREAM_ITEMS, Ledger
from green_router.messages.request import Request
from green_router.serving.mailbox import Mailbox
from green_router.serving.settling import Settling


class Rig:
    """What settles, and its neighbours. Attributes: tasks, what it has had run."""

    def __init__(self) -> None:
        self.failed: list[BaseException] = []
        self.tasks: list[Callable[[], None]] = []
        self.in_flight, self.ledger = InFlight(), Ledger()
        self.mailbox = Mailbox(self.failed.append)
        self.settling = Settling(
            "app:handle", self.in_flight, self.mailbox, self.ledger, self.tasks.append
        )

    def request(self, routing_id: bytes = b"peer") -> Request:
        """An open one."""
        server: Any = None
        request = Request([routing_id, b"", b"x"], 2, 0.0, None, server)
        self.in_flight.hold(request)
        return request

    def mail(self) -> list[Any]:
        """What has been put, the oldest first."""
        mail = []
        while not self.mailbox.empty():
            mail.append(self.mailbox.get())
        return mail


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize("body", [b"x", [b"a", b"b"], None])
def test_it_is_settled_once_and_all_others_are_late(rig: Rig, body: Any) -> None:
    request = rig.request()
    assert rig.settling.settle(request, body, ANSWERED)
    assert not rig.settling.settle(request, b"again", FAILED)
    assert not rig.settling.settle(request, None, ANSWERED)
    assert rig.mail() == [(request, body, ANSWERED)]
    assert rig.ledger.counts[LATE] == 2
    assert rig.ledger.counts[ANSWERED] == 0, "the owner counts it, when it has the mail"


def test_one_that_another_thread_has_claimed_is_late(rig: Rig) -> None:
    request, pool = rig.request(), ThreadPool(1)
    try:
        assert pool.apply(rig.in_flight.claim, (request,))
    finally:
        pool.kill()
    assert not rig.settling.settle(request, b"x", ANSWERED)
    assert (rig.mail(), rig.ledger.counts[LATE]) == ([], 1)


def test_the_end_of_a_stream_comes_after_the_items_that_another_thread_has_sent(rig: Rig) -> None:
    """They are on their way to the mailbox by another queue."""
    request, pool = rig.request(), ThreadPool(1)
    items = [(request, b"%d" % number, STREAM_ITEMS) for number in range(3)]
    try:
        pool.map(rig.mailbox.put_threadsafe, items)
        assert rig.settling.settle(request, None, ANSWERED)
    finally:
        pool.kill()
    gevent.idle()
    assert rig.mail() == [*items, (request, None, ANSWERED)]


# -- bodies ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "body"),
    [(b"x", b"x"), (bytearray(b"x"), b"x"), ([b"x"], b"x"), ([b"a", b"b"], [b"a", b"b"])],
)
def test_a_body_is_bytes_or_a_list_of_several(rig: Rig, value: Any, body: Any) -> None:
    assert rig.settling.body(rig.request(), value) == body
    assert not rig.mail()


@pytest.mark.parametrize("value", [None, "text", [], ["text"], ...], ids=repr)
def test_what_is_no_body_is_told_with_the_name_of_its_handler(rig: Rig, value: Any) -> None:
    with pytest.raises(BadReply, match="app:handle"):
        rig.settling.body(rig.request(), value)


def test_a_body_that_brings_an_envelope_is_warned_of_once(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """In a greenlet of the workplace: a log may block, and whoever has the body may be anywhere."""
    request = rig.request()
    for body in ([b"other", b"x"], b"peer"):
        rig.settling.body(request, body)
    assert not rig.mail()
    for _ in range(3):
        assert rig.settling.body(request, [b"peer", b"", b"x"]) == [b"peer", b"", b"x"]
    [put] = rig.mail()
    assert not rig.tasks
    put()
    assert not caplog.records
    for task in rig.tasks:
        task()
    [record] = caplog.records
    assert "app:handle gave a list that begins with the routing id" in record.getMessage()


# -- in a forked child -----------------------------------------------------------------------------


def test_a_child_that_was_forked_settles_nothing_and_ends_by_what_comes_out(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = rig.request()
    raised: list[BaseException] = []
    monkeypatch.setattr(
        gevent.get_hub(), "handle_system_error", lambda kind, error: raised.append(error)
    )
    rig.settling.disarm()
    assert not rig.in_flight.owes(request)
    assert not rig.settling.settle(request, b"x", ANSWERED)
    rig.settling.put_last(request, b"x", ANSWERED)
    rig.settling.put_last(request, SystemExit(3), ANSWERED)  # type: ignore[arg-type]
    assert not rig.mail()
    assert list(map(type, raised)) == [WrongProcess, SystemExit]
    assert str(os.getpid()) in str(raised[0])
