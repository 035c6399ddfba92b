"""What a server says to its proxies, and hears from them: proxies in the hand of the test. Real
ones are in proxy/."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest

from green_router.errors import BindError, ConfigError
from green_router.messages.credit import BYE, GREET, LOAD, greeting, read
from green_router.messages.ledger import ANSWERED, Ledger
from green_router.serving.links import ANSWER_WITHIN, TELL_EVERY, LinkProtocol, Links, check
from green_router.settings import Settings
from green_router.testing import FakeClock

ENDPOINTS = ("tcp://127.0.0.1:1111", "tcp://127.0.0.1:2222")


class Rig:
    """The links of a server, and the clock by which they go. Attributes: told, what each proxy was
    told, by its number; left, how often the server was told that nothing will come any more."""

    def __init__(self, stack: ExitStack, **settings: Any) -> None:
        self.clock = stack.enter_context(FakeClock())
        self.settings = Settings(**settings)
        self.connected: list[tuple[str, bytes, Any]] = []
        self.links = Links(ENDPOINTS, self.settings, lambda *link: self.connected.append(link))
        self.names = [name for _, name, _ in self.connected]
        self.ledger = Ledger()
        self.told: list[list[Any]] = [[] for _ in self.names]
        self.left = 0
        self.protocol = LinkProtocol(
            self.links, self.settings, self.ledger, self._tell, lambda call: call()
        )
        stack.callback(self.protocol.close)

    def _tell(self, envelope: list[bytes], body: bytes) -> None:
        name, empty = envelope
        assert empty == b""
        self.told[self.names.index(name)].append(read(body))

    def hears(self, proxy: int, word: bytes, *more: bytes) -> bool:
        return self.protocol.heard([self.names[proxy], b"", word, *more])

    def greets(self, proxy: int, epoch: int) -> None:
        assert self.hears(proxy, greeting(epoch))

    def request(self, proxy: int) -> None:
        """A request by way of it."""
        self.links.policy.measure([self.names[proxy], b"client", b"", b"x"])
        self.ledger.received += 1

    def loads(self, proxy: int) -> list[Any]:
        """The accounts that it was given since the last time: (epoch, taken, in hand, window)."""
        told, self.told[proxy] = self.told[proxy], []
        assert {word for word, _ in told} <= {LOAD}
        return [tuple(numbers) for _, numbers in told]

    def leaves(self) -> None:
        def over() -> None:
            self.left += 1

        self.protocol.leave(over)


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    with ExitStack() as stack:
        yield lambda **settings: Rig(stack, **settings)


# -- what can work for proxies ---------------------------------------------------------------------


@pytest.mark.parametrize("endpoint", ["tcp://*:1", "inproc://x", "fd://3", "nonsense"])
def test_a_proxy_is_somewhere_one_can_connect_to(endpoint: str) -> None:
    with pytest.raises(BindError):
        check([endpoint], Settings())


@pytest.mark.parametrize(
    "settings", [{"envelope": "bare"}, {"envelope": "fixed:1"}, {"routing_id": b"me"}]
)
def test_some_settings_leave_a_proxy_no_room(settings: dict[str, Any]) -> None:
    with pytest.raises(ConfigError):
        check(ENDPOINTS, Settings(**settings))
    check(ENDPOINTS, Settings())


def test_each_has_a_name_that_no_client_can_guess(make: Callable[..., Rig]) -> None:
    rig = make()
    assert [endpoint for endpoint, _, _ in rig.connected] == [*ENDPOINTS]
    assert len(set(rig.names)) == 2
    assert all(name.startswith(b"proxy ") and len(name) == 22 for name in rig.names)


# -- how much is in hand ---------------------------------------------------------------------------


def test_each_is_told_at_the_beginning_and_once_a_second(make: Callable[..., Rig]) -> None:
    rig = make(proxy_window=7)
    assert [rig.loads(0), rig.loads(1)] == [[(0, 0, 0, 7)]] * 2
    rig.clock.advance(3 * TELL_EVERY)
    assert rig.loads(0) == [(0, 0, 0, 7)] * 3


def test_no_window_is_larger_than_what_may_be_in_flight(make: Callable[..., Rig]) -> None:
    assert make(proxy_window=100, max_in_flight=3).loads(0) == [(0, 0, 0, 3)]


def test_after_a_turn_that_has_settled_something_each_is_told(make: Callable[..., Rig]) -> None:
    rig = make(proxy_window=7)
    rig.greets(0, 5)
    for _ in range(3):
        rig.request(0)
    rig.loads(0), rig.loads(1)
    rig.protocol.settled()
    assert rig.loads(0) == []
    rig.ledger.counts[ANSWERED] += 2
    for _ in range(2):
        rig.protocol.settled()
    assert rig.loads(0) == [(5, 3, 1, 7)]
    assert rig.loads(1) == [(0, 0, 1, 7)]


def test_a_greeting_begins_an_epoch_and_one_that_comes_twice_does_not(
    make: Callable[..., Rig],
) -> None:
    rig = make(proxy_window=7)
    rig.greets(0, 5)
    rig.request(0)
    rig.greets(0, 5)
    assert rig.loads(0)[-1] == (5, 1, 1, 7)
    rig.greets(0, 6)
    assert rig.loads(0)[-1] == (6, 0, 1, 7), "what was sent before is not on its way any more"


def test_a_request_that_is_malformed_has_been_taken_too(make: Callable[..., Rig]) -> None:
    """Otherwise its proxy would take it for on its way for ever."""
    rig = make(proxy_window=7)
    rig.greets(0, 5)
    assert not rig.protocol.heard([rig.names[0], b"client"])
    rig.clock.advance(TELL_EVERY)
    assert rig.loads(0)[-1][:2] == (5, 1)


# -- what nobody says ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more", [(b"nonsense",), (), (GREET,), (GREET + b"short",), (BYE, b"more"), (BYE,)], ids=repr
)
def test_a_word_that_is_none_is_passed_over(make: Callable[..., Rig], more: Any) -> None:
    rig = make()
    assert rig.protocol.heard([rig.names[0], b"", *more])
    assert [rig.loads(0), rig.left] == [[(0, 0, 0, rig.protocol._window)], 0]


def test_a_client_cannot_say_what_a_proxy_says(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.loads(0)
    assert not rig.protocol.heard([b"client", b"", greeting(5)])
    assert rig.links.policy.measure([b"client", b"", greeting(5)]) == 2
    assert rig.loads(0) == []


# -- goodbye ---------------------------------------------------------------------------------------


def test_who_leaves_waits_for_the_answer_of_each_that_has_greeted(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.greets(0, 5)
    rig.leaves()
    assert rig.told[0][-1] == (BYE, ()) and (BYE, ()) not in rig.told[1]
    assert (rig.left, rig.protocol.gone) == (0, False)
    for _ in range(2):
        assert rig.hears(0, BYE)
    assert (rig.left, rig.protocol.gone) == (1, True)
    rig.clock.advance(2 * ANSWER_WITHIN)
    assert rig.left == 1


def test_where_nobody_has_greeted_nobody_is_waited_for(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.leaves()
    assert (rig.left, rig.protocol.gone) == (1, True)


def test_one_that_does_not_answer_is_named_and_not_waited_for_any_longer(
    make: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    """Its host may be gone, or it is frozen."""
    caplog.set_level(logging.WARNING)
    rig = make()
    rig.greets(0, 5)
    rig.greets(1, 6)
    rig.leaves()
    rig.hears(1, BYE)
    rig.clock.advance(ANSWER_WITHIN - 0.001)
    assert rig.left == 0
    rig.clock.advance(0.001)
    gevent.idle()
    assert rig.left == 1
    [record] = caplog.records
    assert ENDPOINTS[0] in record.getMessage() and ENDPOINTS[1] not in record.getMessage()


def test_one_that_greets_while_the_server_leaves_is_told_goodbye_too(
    make: Callable[..., Rig],
) -> None:
    rig = make()
    rig.greets(0, 5)
    rig.leaves()
    rig.greets(0, 6)
    assert [word for word, _ in rig.told[0]].count(BYE) == 2


def test_after_its_end_no_timer_is_left(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.leaves()
    for _ in range(2):
        rig.protocol.close()
    fired = rig.clock.fired
    rig.clock.advance(100)
    assert rig.clock.fired == fired
