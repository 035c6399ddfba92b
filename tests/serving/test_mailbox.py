"""The mailbox: how the owner is woken by it."""

from __future__ import annotations

import gevent
import pytest

from green_router.serving.mailbox import WAKE, Mailbox
from green_router.testing import eventually


@pytest.fixture
def made() -> Mailbox:
    return Mailbox(lambda error: pytest.fail(repr(error)))


def test_who_waits_for_mail_gets_what_was_added(made: Mailbox) -> None:
    """At once by ``wake``, soon by ``put``."""
    got: list[object] = []

    def owner() -> None:
        while True:
            got.append(made.get())

    waits = gevent.spawn(owner)
    gevent.sleep(0)

    def hub() -> None:
        made.add("one")
        made.wake()
        assert got == ["one"]

    gevent.get_hub().loop.run_callback(hub)
    eventually(lambda: got == ["one"])
    made.put("two")
    eventually(lambda: got == ["one", "two"])
    waits.kill()


def test_who_gives_way_goes_on_when_woken(made: Mailbox) -> None:
    """Whether there is mail or not, and once."""
    order: list[str] = []

    def owner() -> None:
        order.append("gives way")
        made.give_way()
        order.append("goes on")

    def hub() -> None:
        order.append("hub")
        made.wake()
        order.append("again")
        made.wake()

    owns = gevent.spawn(owner)
    gevent.sleep(0)
    gevent.get_hub().loop.run_callback(hub)
    owns.join()
    eventually(lambda: len(order) == 4)
    assert order == ["gives way", "hub", "goes on", "again"]


def test_at_most_one_wake_is_in_it(made: Mailbox) -> None:
    made.ring()
    made.ring()
    made.more = True
    made.wake()
    assert made.all() == [WAKE] and not made.more
    assert made.get() is WAKE
    made.rung = False
    made.wake()
    assert made.all() == []
    made.more = True
    made.wake()
    assert made.all() == [WAKE]


def test_a_ring_that_fails_is_told() -> None:
    """Nobody would ring again."""
    told: list[BaseException] = []
    box = Mailbox(told.append)

    def broken(mail: object) -> None:
        raise MemoryError

    box.put = broken
    box.ring()
    assert [type(error) for error in told] == [MemoryError]
