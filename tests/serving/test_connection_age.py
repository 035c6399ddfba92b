"""Connections that are old are closed, between requests; who asks again loses nothing."""

from __future__ import annotations

from contextlib import contextmanager

import gevent
import pytest
import zmq
import zmq.green
from gevent.event import Event

from green_router import ConfigError, Server
from green_router.serving import connection_age
from green_router.testing import DEADLINE, PATIENCE, assert_balanced, eventually

AGE = 0.2


@contextmanager
def reconnections(client):
    """A list that gets an item each time that this client's connection has ended."""
    ended = []
    monitor = client.get_monitor_socket(zmq.EVENT_DISCONNECTED)

    def watch():
        while True:
            monitor.recv_multipart()
            ended.append(True)

    watching = gevent.spawn(watch)
    yield ended
    watching.kill()
    client.disable_monitor()
    monitor.close(0)


def test_a_quiet_connection_is_closed_again_and_again_and_its_client_served(serve):
    server = serve(lambda request: request.data, max_connection_age=AGE)
    client = server.client(zmq.REQ)
    with reconnections(client) as ended:
        for times in (1, 2, 3):
            client.send(b"x")
            with gevent.Timeout(DEADLINE):
                assert client.recv() == b"x"
            eventually(lambda times=times: len(ended) >= times)
    assert_balanced(server)


def test_one_that_waits_for_a_reply_is_not_quiet(serve, monkeypatch):
    monkeypatch.setattr(connection_age, "PATIENCE", 1000)
    gate = Event()
    server = serve(lambda request: gate.wait() and request.data, max_connection_age=AGE)
    client, idle = server.client(zmq.REQ), server.client(zmq.DEALER)
    with reconnections(idle) as ended:
        client.send(b"x")
        eventually(lambda: len(ended) >= 2)
    gate.set()
    with gevent.Timeout(DEADLINE):
        assert client.recv() == b"x"


def test_one_that_is_never_quiet_is_closed_all_the_same(serve):
    server = serve(lambda request: gevent.sleep(DEADLINE), max_connection_age=AGE, grace=0)
    client = server.client(zmq.DEALER)
    with reconnections(client) as ended:
        client.send_multipart([b"", b"x"])
        eventually(lambda: ended)


def test_who_asks_again_loses_nothing(serve):
    """Clients that never pause, on connections that last a moment: each request gets its own
    reply."""
    server = serve(lambda request: gevent.sleep(0.002) or request.data, max_connection_age=AGE)
    retries = []

    def ask(index):
        client = server.client(zmq.REQ)
        for number in range(100):
            data = b"%d %d" % (index, number)
            client.send(data)
            while not client.poll(int(200 * PATIENCE)):
                retries.append(data)
                client.close(0)
                client = server.client(zmq.REQ)
                client.send(data)
            assert client.recv() == data

    clients = [gevent.spawn(ask, index) for index in range(4)]
    with gevent.Timeout(DEADLINE):
        gevent.joinall(clients, raise_error=True)
    assert_balanced(server)


@pytest.mark.parametrize("age", [0, -1, "soon"])
def test_an_age_that_is_none_is_refused(age):
    with pytest.raises(ConfigError, match="max_connection_age"):
        Server(lambda request: None, max_connection_age=age)
