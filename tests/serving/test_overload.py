"""Too much work, in both ways of meeting it, and what is said of it; the same routing id twice; a
handler that blocks the loop."""

from __future__ import annotations

import logging

import gevent
import gevent.event
import pytest
import zmq

from green_router import Server
from green_router.messages.size import FRAME_BYTES, MESSAGE_BYTES
from green_router.serving import overload
from green_router.testing import (
    PATIENCE,
    FakeClock,
    FakeRouter,
    assert_balanced,
    eventually,
    settled,
)


@pytest.fixture
def gate():
    event = gevent.event.Event()
    yield event
    event.set()


def ask(client, numbers):
    for number in numbers:
        client.send_multipart([b"", b"%d" % number])


def test_refuse_answers_at_once_with_the_busy_reply(serve, gate, caplog):
    caplog.set_level(logging.WARNING)
    server = serve(
        lambda request: gate.wait() and b"done",
        overload="refuse",
        busy_reply=[b"busy", b"5 s"],
        max_in_flight=10,
    )
    client = server.client(zmq.DEALER)
    ask(client, range(100))
    refusals = [client.recv_multipart() for _ in range(90)]
    assert refusals == [[b"", b"busy", b"5 s"]] * 90
    gate.set()
    assert [client.recv_multipart()[1] for _ in range(10)] == [b"done"] * 10
    assert settled(server, "refused") == 90
    assert settled(server, "answered") == 10
    assert server.ask(b"x") == b"done"
    eventually(lambda: "over after" in caplog.text)
    assert next(r.getMessage().split(";")[0] for r in caplog.records).startswith("overload")
    assert len(caplog.records) == 2


def test_refuse_without_a_busy_reply_is_silent(serve, gate):
    server = serve(lambda request: gate.wait() and b"done", overload="refuse", max_in_flight=1)
    client = server.client(zmq.DEALER)
    ask(client, range(10))
    eventually(lambda: settled(server, "refused") == 9)
    gate.set()
    assert client.recv_multipart() == [b"", b"done"]


def test_pause_is_logged_when_it_begins_and_ends(serve, gate, caplog):
    caplog.set_level(logging.WARNING)
    server = serve(lambda request: gate.wait() and b"done", max_in_flight=5)
    client = server.client(zmq.DEALER)
    ask(client, range(100))
    eventually(lambda: "overload" in caplog.text)
    gate.set()
    for _ in range(100):
        client.recv_multipart()
    eventually(lambda: "over after" in caplog.text)
    assert len(caplog.records) == 2
    assert settled(server, "answered") == 100


class Held:
    """A server on a fake ROUTER and a fake clock whose handlers hold their requests until
    ``let_go``.

    Attributes:
        said: what the log says of overload.
    """

    def __init__(self, caplog, **settings):
        self.clock, self.router, self.requests = FakeClock(), FakeRouter(), []
        self._caplog, self._settings = caplog, settings
        caplog.set_level(logging.WARNING)

    def __enter__(self):
        self.clock.__enter__()
        self.server = Server(self.requests.append, self.router.parts, **self._settings)
        self.server.start()
        self.peer = self.router.connect(b"peer")
        return self

    def __exit__(self, *error):
        stopping = gevent.spawn(self.server.stop, 0)
        self.clock.advance(1)
        self.clock.__exit__(*error)
        stopping.get(timeout=10 * PATIENCE)
        assert not self.clock._timers
        assert_balanced(self.server)

    def ask(self, count):
        for number in range(count):
            self.peer.send(b"", b"%d" % number)
        self.clock.advance(0)

    def let_go(self):
        self.requests.pop(0).reply(b"done")
        self.clock.advance(0)
        self.peer.take()

    @property
    def said(self):
        return [record.getMessage() for record in self._caplog.records]


STANDS = (
    f"overload: no request has left for {overload.STANDSTILL:g} s: 3 wait for their replies, the "
    f"oldest for {overload.STANDSTILL:.1f} s, and until one leaves nothing more comes in; "
)


@pytest.mark.parametrize(
    ("settings", "advice"),
    [
        ({"max_in_flight": 3}, "set handler_timeout, or a larger max_in_flight"),
        (
            {
                "max_in_flight_bytes": 3 * (MESSAGE_BYTES + 3 * FRAME_BYTES),
                "handler_timeout": 9000.0,
            },
            (
                "their handler_timeout is 9000 s: set a shorter one, or a larger max_in_flight or "
                "max_in_flight_bytes"
            ),
        ),
        (
            {"max_in_flight": 3, "overload": "refuse"},
            "set handler_timeout, or a larger max_in_flight",
        ),
    ],
)
def test_an_overload_lasts_for_as_long_as_the_limit_is_reached(
    caplog, monkeypatch, settings, advice
):
    """All requests are held, and nothing happens: it is not over, and that it stands still is said
    once, and not asked for."""
    with Held(caplog, **settings) as held:
        held.ask(3)
        held.ask(1)
        assert len(held.said) == 1
        held.clock.advance(overload.STANDSTILL - 0.001)
        assert len(held.said) == 1
        held.clock.advance(0.001)
        assert held.said[1:] == [STANDS + advice]
        fired = held.clock.fired
        held.clock.advance(3600)
        assert held.clock.fired == fired
        assert len(held.said) == 2
        while held.requests:
            held.let_go()
        held.clock.advance(overload.CALM)
        assert [line.split(",")[0] for line in held.said[2:]] == [
            f"overload: over after {3600 + overload.STANDSTILL:.1f} s"
        ]


def test_an_overload_that_moves_does_not_stand_still(caplog):
    with Held(caplog, max_in_flight=3) as held:
        held.ask(100)
        for _ in range(50):
            held.clock.advance(overload.STANDSTILL / 2)
            held.let_go()
        assert len(held.said) == 1
        held.clock.advance(overload.STANDSTILL)
        assert len(held.said) == 2
        for _ in range(10):
            held.clock.advance(2 * overload.STANDSTILL)
            held.let_go()
        assert len(held.said) == 2, "once for each overload"
        while held.requests:
            held.let_go()
        held.clock.advance(overload.CALM)
        assert "over after" in held.said[2]


def test_bytes_in_flight_pause(serve, gate):
    server = serve(lambda request: gate.wait() and b"done", max_in_flight_bytes=10_000)
    client = server.client(zmq.DEALER)
    for _ in range(100):
        client.send_multipart([b"", b"x" * 1000])
    eventually(lambda: server.stats()["received"])
    for _ in range(20):
        gevent.sleep(0.001)
    assert server.stats()["received"] <= 64  # what one turn takes at the most
    received = server.stats()["received"]
    gevent.sleep(0.05)
    assert server.stats()["received"] == received
    gate.set()
    for _ in range(100):
        assert client.recv_multipart()[1] == b"done"
    assert server._owner._admission.bytes == server._owner._admission.count == 0


@pytest.mark.parametrize(
    "limit",
    [
        {"max_in_flight_per_peer": 5},
        {"max_in_flight_bytes_per_peer": 5 * (MESSAGE_BYTES + 3 * FRAME_BYTES + 506)},
    ],
)
def test_one_peer_beyond_its_limit_is_refused_and_no_other(serve, gate, limit):
    server = serve(lambda request: gate.wait() and b"done", busy_reply=b"busy", **limit)
    greedy, modest = server.client(zmq.DEALER), server.client(zmq.DEALER)
    for _ in range(50):
        greedy.send_multipart([b"", b"x" * 500])
    assert [greedy.recv_multipart()[1] for _ in range(45)] == [b"busy"] * 45
    modest.send_multipart([b"", b"y" * 500])
    assert not modest.poll(20)
    gate.set()
    assert modest.recv_multipart() == [b"", b"done"]
    assert [greedy.recv_multipart()[1] for _ in range(5)] == [b"done"] * 5
    admission = server._owner._admission
    eventually(lambda: admission.count == 0)
    assert admission.bytes == 0
    assert not admission._peers


def test_a_request_that_nobody_answers_gives_its_room_back(serve):
    server = serve(
        lambda request: None, max_in_flight_per_peer=1000, overload="refuse", max_in_flight=3
    )
    client = server.client(zmq.DEALER)
    for _ in range(30):
        before = settled(server)
        ask(client, [1])
        eventually(lambda wanted=before + 1: settled(server) == wanted)
    assert settled(server, "no_reply") == 30
    assert server._owner._admission.count == 0


def test_handover_serves_a_client_that_restarts_with_its_routing_id(serve):
    server = serve(lambda request: request.data)
    for number in range(20):
        client = server.client(zmq.DEALER, routing_id=b"me")
        client.send_multipart([b"", b"%d" % number])
        assert client.recv_multipart() == [b"", b"%d" % number]
        # the old one is not closed: its connection is taken over


def test_reject_ignores_the_second_client_of_a_routing_id(serve):
    server = serve(lambda request: request.data, duplicate_routing_id="reject")
    first = server.client(zmq.DEALER, routing_id=b"me")
    ask(first, [1])
    assert first.recv_multipart() == [b"", b"1"]
    second = server.client(zmq.DEALER, routing_id=b"me")
    ask(second, [2])
    ask(first, [3])
    assert first.recv_multipart() == [b"", b"3"]
    assert not second.poll(50)


def test_heartbeats_keep_healthy_clients_while_the_server_pauses(serve, gate):
    server = serve(
        lambda request: gate.wait() and b"done",
        max_in_flight=1,
        heartbeat_interval=0.1,
        duplicate_routing_id="reject",
    )
    clients = [
        server.client(zmq.DEALER, heartbeat_ivl=100, heartbeat_timeout=300) for _ in range(5)
    ]
    for client in clients:
        ask(client, range(3))
    gevent.sleep(1.0)
    gate.set()
    for client in clients:
        assert [client.recv_multipart()[1] for _ in range(3)] == [b"done"] * 3
    assert settled(server, "answered") == 15
