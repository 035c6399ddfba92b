"""Who watches the owner is woken once for each time that it has said that it sleeps."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest

from green_router import Server
from green_router.serving.parts import Parts
from green_router.testing import FakeRouter, RunningServer, assert_balanced, eventually


class Noting:
    """An observer. Attributes: woken, how often; stats and monitor, what it was given."""

    def __init__(self, stats: Callable[[], dict[str, Any]], monitor: Any) -> None:
        self.stats, self.monitor, self.woken = stats, monitor, 0
        self.asleep = True

    def wake(self) -> None:
        self.woken += 1


class Sleepless(Noting):
    """One that is awake from when it is woken until the test puts it to sleep."""

    def wake(self) -> None:
        super().wake()
        self.asleep = False


Watched = tuple[Server, FakeRouter, list[Noting]]


@pytest.fixture
def watched() -> Iterator[Callable[..., Watched]]:
    """``watched(kind)``: an echo on a fake ROUTER, and its observer in a list, once it has
    started."""
    with ExitStack() as stack:

        def start(kind: type[Noting]) -> Watched:
            router, observers = FakeRouter(), list[Noting]()

            def observer(*given: Any) -> Noting:
                observers.append(kind(*given))
                return observers[-1]

            parts = router.parts
            server = Server(
                lambda request: request.data, Parts(router=parts.router, observer=observer)
            )
            server.start()
            stack.callback(assert_balanced, server)
            stack.callback(server.stop, 0)
            return server, router, observers

        yield start


def test_an_observer_is_woken_and_has_the_statistics() -> None:
    observers: list[Noting] = []

    def observer(stats: Callable[[], dict[str, Any]], monitor: Any) -> Noting:
        observers.append(Noting(stats, monitor))
        return observers[0]

    server = RunningServer(
        lambda request: request.data, Parts(observer=observer), block_warning=None
    )
    server.bind("tcp://127.0.0.1:0")
    server.start()
    try:
        server.ask(b"x")
        assert observers[0].woken > 0
        assert observers[0].monitor is None
        eventually(lambda: observers[0].stats()["fates"]["answered"] == 1)
    finally:
        server.close_clients()
        server.stop(0)


def test_one_that_is_awake_is_not_woken_again(watched: Callable[..., Watched]) -> None:
    """However much happens: it says when it wants to know more."""
    _, router, [observer] = watched(Sleepless)
    peer = router.connect()
    for round_ in (1, 2):
        for _ in range(100):
            peer.send(b"", b"x")
        eventually(lambda: peer.take() and len(peer.received) == 100)
        assert observer.woken == round_
        peer.received.clear()
        for _ in range(10):
            gevent.idle()
        assert observer.woken == round_, "nothing has happened meanwhile"
        observer.asleep = True


def test_one_that_sleeps_costs_a_server_at_rest_nothing(watched: Callable[..., Watched]) -> None:
    _, router, [observer] = watched(Noting)
    peer = router.connect()
    peer.send(b"", b"x")
    eventually(lambda: peer.take() and peer.received)
    gevent.idle()
    woken = observer.woken
    assert woken
    for _ in range(20):
        gevent.idle()
        gevent.sleep(0)
    assert observer.woken == woken


def test_what_it_raises_ends_the_server(watched: Callable[..., Watched]) -> None:
    """It is one of the server's own parts, and the owner calls it."""

    class Broken(Noting):
        def wake(self) -> None:
            raise LookupError("broken")

    told: list[BaseException] = []
    router = FakeRouter()
    server = Server(
        lambda request: request.data,
        Parts(router=router.parts.router, observer=Broken, crashed=told.append),
    )
    server.start()
    router.connect().send(b"", b"x")
    eventually(lambda: "stopped" in repr(server))
    assert list(map(type, told)) == [LookupError]
