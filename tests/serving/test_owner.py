"""What one peer, one message or one handler can do to all the others: not much.

Rules of this file
  1. Turns of the loop are counted, not seconds: a busy machine makes no difference.
"""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterator
from contextlib import contextmanager

import gevent
import gevent.event
import pytest
import zmq

from green_router import Server
from green_router.hub import log_throttle
from green_router.serving.owner import BUDGET
from green_router.testing import FakeRouter, assert_balanced, eventually, settled

BIG = b"x" * 100_000


class Turns:
    """Counts the turns of the loop: a greenlet that is always ready."""

    def __init__(self) -> None:
        self.count = 0
        self._counter = gevent.spawn(self._run)

    def _run(self) -> None:
        while True:
            self.count += 1
            gevent.sleep(0)

    def close(self) -> None:
        self._counter.kill()


@pytest.fixture
def turns() -> Iterator[Turns]:
    counted = Turns()
    yield counted
    counted.close()


@contextmanager
def on_fake_router(handler, **settings):
    """A server whose peers send as much as they like at once."""
    router = FakeRouter()
    server = Server(handler, router.parts, **settings)
    server.start()
    try:
        yield server, router
    finally:
        server.stop(0)
        assert_balanced(server)


def frozen_client(server):
    """A DEALER over a real connection that asks and reads nothing."""
    return server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)


def test_parked_replies_use_up_no_request_in_flight(serve):
    server = serve(
        lambda request: BIG if request.data == b"big" else request.data,
        max_in_flight=5,
        send_high_water_mark=2,
    )
    frozen = frozen_client(server)
    for _ in range(80):
        frozen.send_multipart([b"", b"big"])
    eventually(lambda: server.stats()["received"] == 80)
    assert eventually(lambda: server.stats()["parked"]) > 5
    assert [server.ask(b"%d" % number) for number in range(10)] == [
        b"%d" % number for number in range(10)
    ]
    assert [frozen.recv_multipart()[1] for _ in range(80)] == [BIG] * 80


def test_parked_replies_keep_no_request(serve):
    requests = []

    def handler(request):
        requests.append(weakref.ref(request))
        return BIG

    server = serve(handler, send_high_water_mark=2)
    frozen = frozen_client(server)
    for _ in range(80):
        frozen.send_multipart([b"", b"x", bytes(10_000)])
    eventually(lambda: len(requests) == 80 and server.stats()["parked"])
    gc.collect()
    assert not [request for request in requests if request() is not None]
    assert [frozen.recv_multipart()[1] for _ in range(80)] == [BIG] * 80


def test_who_is_refused_takes_no_turn_from_handlers_and_timers(turns):
    gate, count = gevent.event.Event(), 20_000
    with on_fake_router(
        lambda request: gate.wait() and b"done",
        overload="refuse",
        busy_reply=b"busy",
        max_in_flight=1,
    ) as (server, router):
        flood = router.connect(capacity=2 * count)
        before = turns.count
        for _ in range(count + 1):
            flood.send(b"", b"x")
        eventually(lambda: settled(server, "refused") == count)
        assert turns.count - before >= count / BUDGET
        gate.set()
        eventually(lambda: settled(server, "answered") == 1)


@pytest.mark.parametrize("frames", [100_000])
def test_a_message_of_very_many_frames_is_thrown_away_in_pieces(turns, frames):
    with on_fake_router(lambda request: request.data, max_frames=100) as (server, router):
        enemy, friend = router.connect(), router.connect()
        before = turns.count
        enemy.send(*[b""] * frames)
        friend.send(b"", b"hello")
        eventually(lambda: settled(server, "answered") == 1)
        assert turns.count - before >= frames / 100
        friend.take()
        assert friend.received == [[b"", b"hello"]]
        assert settled(server, "malformed") == 1


def test_handlers_that_fail_write_ten_lines_a_second_at_the_most(serve, caplog, monkeypatch):
    caplog.set_level(logging.ERROR)
    now = [0.0]
    monkeypatch.setattr(log_throttle, "monotonic", lambda: now[0])
    server = serve(lambda request: 1 / 0, on_error=lambda request, error: b"sorry")
    client = server.client(zmq.DEALER)

    def fail(times):
        for _ in range(times):
            client.send_multipart([b"", b"x"])
        for _ in range(times):
            client.recv_multipart()

    def said():
        return [record.getMessage() for record in caplog.records]

    fail(100)
    eventually(lambda: settled(server, "failed") == 100)
    assert len(said()) == 10
    assert not [line for line in said() if "more since" in line]
    now[0] = 1.0
    fail(1)
    eventually(lambda: len(said()) == 11)
    assert said()[-1].endswith("(90 more since the last such line)")
