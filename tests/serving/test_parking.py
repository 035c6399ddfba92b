"""Bounds: requests in flight, sizes, slow peers; and settings that are wrong."""

from __future__ import annotations

import gevent
import gevent.event
import pytest
import zmq

from green_router import ConfigError, Server
from green_router.testing import eventually, settled


def test_no_more_than_max_in_flight_are_taken_and_all_are_answered(serve):
    gate, running, most = gevent.event.Event(), [0], [0]

    def handler(request):
        running[0] += 1
        most[0] = max(most[0], running[0])
        gate.wait()
        gevent.sleep(0)
        running[0] -= 1
        return request.data

    server = serve(handler, max_in_flight=10)
    client = server.client(zmq.DEALER)
    for number in range(200):
        client.send_multipart([b"", b"%d" % number])
    eventually(lambda: running[0] == 10)
    for _ in range(20):
        gevent.sleep(0.001)
    stats = server.stats()
    assert (stats["in_flight"], stats["received"]) == (
        10,
        11,
    )  # one of each connection is read ahead
    gate.set()
    assert sorted(int(client.recv_multipart()[1]) for _ in range(200)) == list(range(200))
    assert most[0] == 10


def test_a_message_above_the_limit_disconnects_its_sender_alone(serve):
    server = serve(lambda request: b"ok", max_message_bytes=1000)
    client, other = server.client(zmq.DEALER), server.client()
    other.send(b"x" * 1000)
    assert other.recv() == b"ok"
    monitor = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)
    client.send_multipart([b"", b"x" * 1001])
    assert monitor.poll(5000)
    client.disable_monitor()
    monitor.close()
    other.send(b"x")
    assert other.recv() == b"ok"
    assert server.stats()["received"] == 2


BIG = b"x" * 100_000


def frozen_client(server, **options):
    """A DEALER over a real connection that has asked for a lot and reads nothing."""
    return server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536, **options)


def test_a_client_that_does_not_read_delays_nobody_and_gets_everything_in_order_later(serve):
    server = serve(
        lambda request: [request.data, BIG],
        send_high_water_mark=2,
        max_parked_bytes_per_peer=100 * len(BIG),
    )
    frozen = frozen_client(server)
    for number in range(80):
        frozen.send_multipart([b"", b"%d" % number])
    eventually(lambda: server.stats()["parked"])
    for _ in range(50):
        assert server.ask(b"x") == BIG
    assert server.stats()["parked"] > 0
    for number in range(80):
        assert frozen.recv_multipart() == [b"", b"%d" % number, BIG]
    assert settled(server, "answered") == 130
    assert server.stats()["parked"] == server.stats()["parked_bytes"] == 0


def test_beyond_its_bytes_a_client_that_does_not_read_loses_replies(serve):
    server = serve(
        lambda request: BIG, send_high_water_mark=2, max_parked_bytes_per_peer=5 * len(BIG)
    )
    frozen = frozen_client(server)
    for _ in range(100):
        frozen.send_multipart([b"", b"x"])
    eventually(lambda: settled(server) + server.stats()["parked"] == 100)
    stats = server.stats()
    # Or none by now: the kernel takes some more with time.
    assert stats["parked_bytes"] <= 5 * len(BIG)
    assert stats["fates"]["peer_stalled"] > 0
    assert stats["fates"]["answered"] + stats["fates"]["peer_stalled"] + stats["parked"] == 100


def test_what_has_waited_too_long_is_dropped(serve):
    server = serve(lambda request: BIG, send_high_water_mark=2, park_timeout=0.1)
    frozen = frozen_client(server)
    for _ in range(60):
        frozen.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["parked"])
    eventually(lambda: not server.stats()["parked"])
    assert settled(server, "peer_stalled") > 0


def test_what_waits_for_a_client_that_leaves_is_peer_gone(serve):
    server = serve(lambda request: BIG, send_high_water_mark=2)
    frozen = frozen_client(server)
    for _ in range(60):
        frozen.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["parked"])
    frozen.close(0)
    eventually(lambda: not server.stats()["parked"])
    assert settled(server, "peer_gone") > 0


def test_a_stream_is_no_faster_than_its_client(serve):
    made = [0]

    def handler(request):
        for _ in range(200):
            made[0] += 1
            yield BIG

    server = serve(handler, send_high_water_mark=2)
    frozen = frozen_client(server)
    frozen.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["parked"])
    for _ in range(50):
        gevent.sleep(0.001)
    assert made[0] < 150
    assert server.stats()["parked_bytes"] <= 65 * (len(BIG) + 200)
    for _ in range(200):
        assert frozen.recv_multipart()[1] == BIG
    eventually(lambda: settled(server, "answered") == 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"max_in_flight": 0}, ["max_in_flight", "0", "1 or more"]),
        ({"handler_timeout": -1}, ["handler_timeout", "-1", "seconds"]),
        ({"envelope": "guess"}, ["envelope", "guess", "delimiter"]),
        ({"max_inflight": 3}, ["max_inflight", "max_in_flight"]),
        ({"on_error": "fail"}, ["on_error", "callable"]),
        ({"max_message_bytes": 1.5}, ["max_message_bytes", "1.5", "bytes"]),
    ],
)
def test_a_wrong_setting_raises_at_construction_and_names_setting_value_and_rule(settings, words):
    with pytest.raises(ConfigError) as caught:
        Server(lambda request: b"", **settings)
    for word in words:
        assert word in str(caught.value)


def test_a_handler_that_is_none():
    with pytest.raises(ConfigError, match="callable"):
        Server("handler")
