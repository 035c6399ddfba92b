"""The mailbox: how the owner is woken by it."""

from __future__ import annotations

from collections.abc import Iterator
from unittest.mock import Mock

import gevent
import pytest

from green_router.serving.mailbox import WAKE, Mailbox
from green_router.testing import eventually


@pytest.fixture
def made() -> Mailbox:
    return Mailbox(lambda error: pytest.fail(repr(error)))


@pytest.fixture
def got(made: Mailbox) -> Iterator[list[object]]:
    """What a greenlet gets that waits for mail, again and again."""
    taken: list[object] = []

    def owner() -> None:
        while True:
            taken.append(made.get())

    waits = gevent.spawn(owner)
    gevent.sleep(0)
    yield taken
    waits.kill()


def test_who_waits_for_mail_gets_what_was_added(made: Mailbox, got: list[object]) -> None:
    """At once by ``wake``, soon by ``put``."""

    def hub() -> None:
        made.add("one")
        made.wake()
        assert got == ["one"]

    gevent.get_hub().loop.run_callback(hub)
    eventually(lambda: got == ["one"])
    made.put("two")
    eventually(lambda: got == ["one", "two"])


def test_who_is_killed_while_it_waits_is_woken_no_more(made: Mailbox) -> None:
    """And what was put is still there, for the next one."""
    waits = gevent.spawn(made.get)
    gevent.sleep(0)
    waits.kill()
    made.put("one")
    made.add("two")
    made.flush()
    made.wake()
    gevent.sleep(0)
    assert [made.get(), made.get()] == ["one", "two"]


def test_who_was_woken_for_nothing_waits_on(made: Mailbox, got: list[object]) -> None:
    """``put`` has scheduled a callback, and ``wake`` was there before it."""

    def hub() -> None:
        made.put("one")
        made.wake()
        assert got == ["one"]

    gevent.get_hub().loop.run_callback(hub)
    gevent.sleep(0)
    gevent.sleep(0)
    assert got == ["one"]
    gevent.get_hub().loop.run_callback(made._resume)  # by somebody else
    gevent.sleep(0)
    made.put("two")
    eventually(lambda: got == ["one", "two"])


def test_a_hundred_puts_make_one_callback(made: Mailbox, got: list[object]) -> None:
    made._loop = Mock(wraps=made._loop)
    for number in range(100):
        made.put(number)
    assert made._loop.run_callback.call_count == 1
    gevent.sleep(0)
    assert got == list(range(100))


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
