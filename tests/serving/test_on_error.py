"""on_error has the time that a handler has: one that does not return keeps nobody's place."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
import zmq
from greenlet import GreenletExit

from green_router import HandlerTimeout
from green_router.testing import eventually, settled
from green_router.testing.running import whereabouts

LIMIT = 0.1


def fail(request: Any) -> bytes:
    """A handler: the client says how it shall go."""
    if request.data == b"fail":
        raise ValueError("x")
    if request.data == b"late":
        gevent.sleep(3600)
    return bytes(request.data)


class Hanging:
    """An on_error that never returns. ``refuses``: it does not let itself be ended either."""

    def __init__(self, refuses: bool = False) -> None:
        self.refuses, self.asked = refuses, 0
        self.ended: list[type[BaseException]] = []

    def __call__(self, request: Any, error: BaseException) -> None:
        self.asked += 1
        while True:
            try:
                gevent.sleep(3600)
            except BaseException as end:
                self.ended.append(type(end))
                if not self.refuses or isinstance(end, GreenletExit):
                    raise


@pytest.mark.parametrize("refuses", [False, True])
@pytest.mark.parametrize(("data", "fate"), [(b"fail", "failed"), (b"late", "timed_out")])
def test_one_that_never_returns_takes_no_place(
    serve: Any, data: bytes, fate: str, refuses: bool
) -> None:
    hanging = Hanging(refuses)
    server = serve(fail, on_error=hanging, handler_timeout=LIMIT, max_in_flight=2)
    client = server.client(zmq.DEALER)
    for _ in range(4):
        client.send_multipart([b"", data])
    eventually(lambda: hanging.asked == 2)
    stats = server.stats()
    assert (stats["in_flight"], whereabouts(server)["explaining"]) == (2, 2)
    assert server.ask(b"good") == b"good"
    eventually(lambda: settled(server, fate) == 4)
    assert server.stats()["events"]["callback_errors"] == 4
    assert whereabouts(server)["explaining"] == 0
    eventually(lambda: hanging.ended == [HandlerTimeout] * 4)


def test_its_time_begins_when_it_is_asked(serve: Any) -> None:
    """The handler has had its own."""

    def slow(request: Any) -> bytes:
        gevent.sleep(3 * LIMIT)
        raise ValueError

    def explain(request: Any, error: BaseException) -> bytes:
        gevent.sleep(3 * LIMIT)
        return type(error).__name__.encode()

    server = serve(slow, on_error=explain, handler_timeout=5 * LIMIT)
    assert server.ask(b"x") == b"ValueError"
    assert server.stats()["events"]["callback_errors"] == 0


def test_one_that_is_late_says_nothing(serve: Any) -> None:
    def explain(request: Any, error: BaseException) -> bytes:
        try:
            gevent.sleep(3600)
        except HandlerTimeout:
            return b"too late"
        return b""

    server = serve(fail, on_error=explain, handler_timeout=LIMIT)
    client = server.client(zmq.DEALER)
    for data in (b"fail", b"good"):
        client.send_multipart([b"", data])
    eventually(lambda: settled(server, "failed") == 1)
    client.send_multipart([b"", b"second"])
    assert [client.recv_multipart()[1] for _ in range(2)] == [b"good", b"second"]


def test_a_stop_ends_those_that_are_made(serve: Any) -> None:
    hanging = Hanging()
    server = serve(fail, on_error=hanging)
    server.client().send(b"fail")
    eventually(lambda: hanging.asked)
    server.stop(0)
    eventually(lambda: hanging.ended == [GreenletExit])
    assert server.stats()["fates"]["abandoned"] == 1
