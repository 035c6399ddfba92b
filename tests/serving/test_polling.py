"""Asking about pending requests, one after the other: the same answers, compiled or in Python."""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from greenlet import getcurrent

from green_router.messages.request import Request
from green_router.serving.greenlets import HandlerGreenlet
from green_router.serving.polling import poll_pending, poll_pending_pure
from green_router.serving.questions import Asked

POLLS = {"pure": poll_pending_pure, "in use": poll_pending}


class Scene:
    """Requests that wait, and the handler that is asked about them.

    Attributes:
        entries: the requests that wait, as Asked.
        open: the keys of those that are owed a reply.
        seen: the data of those about which the handler was asked.
        me: the greenlet that asks.
    """

    def __init__(self, poll: Callable[..., Any], handle: Callable[[Any], Any], count: int) -> None:
        nobody: Any = None
        requests = [Request([b"peer", b"", b"%d" % n], 2, 0.0, None, nobody) for n in range(count)]
        self.entries = [Asked(nobody, request, 0) for request in requests]
        self.open: dict[int, Any] = {id(request): None for request in requests}
        self.seen: list[int] = []
        self.asking = SimpleNamespace(current=None)
        self._poll, self._handle, self._left = poll, handle, iter(list(self.entries))
        self.result: Any = None
        self.me: Any = None

    def clock(self) -> float:
        """Tell the time; a question takes a millisecond."""
        return 0.001 * len(self.seen)

    def ask(self, steady: bool = True, until: float = 1.0) -> Any:
        """Ask within a greenlet of its own; ``result`` is what that has returned."""

        def handle(request: Request) -> Any:
            self.seen.append(int(request.data))
            return self._handle(request)

        def run() -> None:
            me, asking = getcurrent(), self.asking
            own = me.hold  # which refers to the greenlet, as those of asking.py
            self.result = self._poll(
                self._left, handle, me, asking, self.open, steady, until, self.clock
            )
            me.hold = own

        self.result, self.me = None, HandlerGreenlet(run, getcurrent())
        self.asking.current = self.me
        self.me.switch()
        return self.result


@pytest.fixture(params=POLLS)
def scene(request: pytest.FixtureRequest) -> Callable[..., Scene]:
    """``scene(handle, count)`` for either kind."""
    return lambda handle=lambda request: None, count=5: Scene(POLLS[request.param], handle, count)


def test_all_are_asked_while_none_is_ready(scene: Callable[..., Scene]) -> None:
    made = scene()
    assert made.ask() is None
    assert made.seen == [0, 1, 2, 3, 4]
    assert [asked.greenlet for asked in made.entries] == [None] * 5


@pytest.mark.parametrize("result", [b"reply", False, (), [], 0], ids=repr)
def test_it_stops_at_what_a_handler_returns(scene: Callable[..., Scene], result: Any) -> None:
    """Also at what means "not ready" and is not None: the caller tells."""
    made = scene(lambda request: result if request.data == b"2" else None)
    asked, request, returned, error = made.ask()
    assert (asked, request) == (made.entries[2], made.entries[2].request)
    assert returned is result
    assert error is None
    assert asked.greenlet is made.me
    assert made.ask() is None
    assert made.seen == [0, 1, 2, 3, 4]


def test_it_stops_at_what_a_handler_raises(scene: Callable[..., Scene]) -> None:
    def handle(request: Request) -> None:
        raise SystemExit(request.data)

    made = scene(handle)
    asked, request, returned, error = made.ask()
    assert (asked, request, returned) == (made.entries[0], made.entries[0].request, None)
    assert isinstance(error, SystemExit)
    assert error.args == (b"0",)
    assert error.__traceback__ is not None
    assert asked.greenlet is made.me


def test_one_at_a_time_where_something_is_to_be_done_about_each(
    scene: Callable[..., Scene],
) -> None:
    made = scene()
    assert made.ask(steady=False)[:3] == (made.entries[0], made.entries[0].request, None)
    assert made.seen == [0]


def test_no_further_than_the_time_that_it_has(scene: Callable[..., Scene]) -> None:
    made = scene()
    assert made.ask(until=0.002)[0] is made.entries[1]
    assert made.seen == [0, 1]


def _settle(made: Scene) -> None:
    made.entries[0].request = None


def _claim(made: Scene) -> None:
    made.open.pop(id(made.entries[0].request))


def _is_asked(made: Scene) -> None:
    made.entries[0].greenlet = made  # type: ignore[assignment]


@pytest.mark.parametrize("change", [_settle, _claim, _is_asked])
def test_nobody_asks_in_vain(scene: Callable[..., Scene], change: Callable[[Scene], None]) -> None:
    made = scene()
    change(made)
    assert made.ask() == (made.entries[0], None, None, None)
    assert made.seen == []


def test_one_for_whom_a_greenlet_waits_is_asked_about_whether_or_not_it_is_open(
    scene: Callable[..., Scene],
) -> None:
    made = scene()
    made.open.clear()
    made.entries[0].waiter = made  # type: ignore[assignment]
    assert made.ask()[:2] == (made.entries[1], None)
    assert made.seen == [0]


VARIABLE = contextvars.ContextVar[int]("VARIABLE")
KEPT: list[Any] = []


def _set(request: Request) -> None:
    VARIABLE.set(int(request.data))


def _note(request: Request) -> None:
    getcurrent().noted = request  # type: ignore[attr-defined]


def _link(request: Request) -> None:
    me: Any = getcurrent()
    me.at_work = True
    me.rawlink(lambda of: None)


def _keep(request: Request) -> None:
    KEPT.append(getcurrent())


@pytest.mark.parametrize("leave", [_set, _note, _link, _keep])
def test_it_stops_where_something_is_left_behind(
    scene: Callable[..., Scene], leave: Callable[[Request], None]
) -> None:
    made = scene(leave)
    found = made.ask()
    KEPT.clear()
    assert found[0] is made.entries[0]
    assert made.seen == [0]


def test_a_context_is_that_of_its_request(scene: Callable[..., Scene]) -> None:
    made = scene(lambda request: VARIABLE.get(None))
    made.entries[1].context = contextvars.Context()
    made.entries[1].context.run(VARIABLE.set, 7)
    assert made.ask()[::2] == (made.entries[1], 7)
    assert made.seen == [0, 1]


def test_it_ends_where_another_has_gone_on_meanwhile(scene: Callable[..., Scene]) -> None:
    """A handler that blocks may take as long as it likes: others ask about those behind it."""
    main = getcurrent()
    made = scene(lambda request: main.switch() if request.data == b"1" else None)
    assert made.ask() is None
    first, seen = made.me, list(made.seen)
    made.asking.current = None
    assert made.ask() is None
    assert seen == [0, 1]
    assert made.seen == [0, 1, 2, 3, 4]
    assert made.entries[1].greenlet is first
    first.switch(None)
    assert made.result[:3] == (made.entries[1], made.entries[1].request, None)


def test_what_is_thrown_into_a_handler_is_what_it_raises(scene: Callable[..., Scene]) -> None:
    main = getcurrent()
    made = scene(lambda request: main.switch())
    made.ask()
    made.me.at_work = True
    made.me.throw(TimeoutError("late"))
    assert repr(made.result[3]) == "TimeoutError('late')"


def test_what_fails_elsewhere_is_raised(scene: Callable[..., Scene]) -> None:
    made = scene()
    made.entries[0] = None  # type: ignore[call-overload]
    made._left = iter(made.entries)
    with pytest.raises(AttributeError):
        made.ask()


@pytest.mark.parametrize("field", ["context", "greenlet", "request", "waiter"])
def test_a_field_may_be_anything_or_none(scene: Callable[..., Scene], field: str) -> None:
    asked: Any = scene().entries[0]
    for value in (object(), None):
        setattr(asked, field, value)
        assert getattr(asked, field) is value


def test_it_keeps_nothing(scene: Callable[..., Scene]) -> None:
    made = scene(lambda request: b"reply" if request.data == b"4" else None)
    asked = made.entries[0]
    before = sys.getrefcount(asked), sys.getrefcount(asked.request)
    made.ask()
    made._left, made.result = iter(()), None
    made.me.hold = None
    assert (sys.getrefcount(asked) + 1, sys.getrefcount(asked.request)) == before
