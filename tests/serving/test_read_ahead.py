"""Requests that are read while there is no place for them: whose client goes is known, and what is
promised to the others holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import zmq
from gevent.event import Event

from green_router.testing import DEADLINE, eventually, settled

PLACES, CLIENTS = 2, 5


class Held:
    """A handler whose requests go on when they are told to."""

    def __init__(self) -> None:
        self.began: list[bytes] = []
        self.go = Event()

    def __call__(self, request: Any) -> bytes:
        self.began.append(bytes(request.data))
        self.go.wait()
        return bytes(request.data)


def crowd(server: Any, size: int = 1) -> list[Any]:
    """Clients that have asked one after the other; there are places for the first of them."""
    clients = []
    for number in range(CLIENTS):
        clients.append(server.client(zmq.REQ))
        clients[-1].send(b"%d" % number * size)
        eventually(lambda: server.stats()["received"] == len(clients))
    return clients


def test_they_wait_for_a_place_in_order(serve: Any) -> None:
    held = Held()
    server = serve(held, max_in_flight=PLACES)
    clients = crowd(server)
    stats = server.stats()
    assert (stats["in_flight"], stats["waiting"]) == (PLACES, CLIENTS - PLACES)
    assert held.began == [b"0", b"1"]
    held.go.set()
    assert [client.recv() for client in clients] == [b"0", b"1", b"2", b"3", b"4"]
    assert held.began == [b"0", b"1", b"2", b"3", b"4"]


def test_those_of_clients_that_go_get_none(serve: Any) -> None:
    held = Held()
    server = serve(held, max_in_flight=PLACES)
    clients = crowd(server)
    clients[2].close(0)
    clients[4].close(0)
    eventually(lambda: settled(server, "peer_gone") == 2)
    assert server.stats()["events"]["disconnected_busy"] == 2
    held.go.set()
    assert clients[3].recv() == b"3"
    assert held.began == [b"0", b"1", b"3"]


def test_no_more_than_there_are_connections(serve: Any) -> None:
    held = Held()
    server = serve(held, max_in_flight=1)
    client = server.client(zmq.DEALER)
    for number in range(10):
        client.send_multipart([b"", b"%d" % number])
    eventually(lambda: server.stats()["waiting"] == 1)
    gevent.sleep(0.01)
    assert server.stats()["received"] == 2
    held.go.set()
    assert [client.recv_multipart()[1] for _ in range(10)] == [b"%d" % n for n in range(10)]


def test_no_more_bytes_than_may_be_in_flight(serve: Any) -> None:
    held = Held()
    server = serve(held, max_in_flight=100, max_in_flight_bytes=250_000)
    clients = [server.client(zmq.REQ) for _ in range(9)]
    for client in clients:
        client.send(bytes(100_000))
    # Three go beyond the bound, here and there; one more has a place where a turn began with it.
    eventually(lambda: server.stats()["waiting"] == 3)
    gevent.sleep(0.01)
    stats = server.stats()
    assert stats["in_flight"] in (3, 4) and stats["waiting"] == 3
    held.go.set()
    assert {len(client.recv()) for client in clients} == {100_000}


def test_a_peer_beyond_its_own_limit_is_refused_at_once(serve: Any) -> None:
    held = Held()
    server = serve(held, max_in_flight=1, max_in_flight_per_peer=1, busy_reply=b"busy")
    first, second = server.client(zmq.REQ), server.client(zmq.DEALER)
    first.send(b"first")
    eventually(lambda: held.began)
    for data in (b"a", b"b"):
        second.send_multipart([b"", data])
    assert second.recv_multipart() == [b"", b"busy"]
    held.go.set()
    assert (first.recv(), second.recv_multipart()) == (b"first", [b"", b"a"])
    second.send_multipart([b"", b"c"])  # nothing of it is counted any more
    assert second.recv_multipart() == [b"", b"c"]


def test_their_time_begins_with_their_place(serve: Any) -> None:
    held = Held()
    server = serve(
        held, max_in_flight=PLACES, handler_timeout=0.2, on_error=lambda request, error: b"late"
    )
    clients = crowd(server)
    assert [client.recv() for client in clients] == [b"late"] * CLIENTS
    assert settled(server, "timed_out") == CLIENTS
    assert held.began == [b"0", b"1", b"2", b"3", b"4"]


def test_a_drain_handles_them(serve: Any) -> None:
    held = Held()
    server = serve(held, max_in_flight=PLACES)
    clients = crowd(server)
    stopping = gevent.spawn(server.stop)
    gevent.sleep(0)
    held.go.set()
    stopping.join()
    assert [client.recv() for client in clients] == [b"0", b"1", b"2", b"3", b"4"]


def test_a_stop_at_once_abandons_them(serve: Any) -> None:
    server = serve(Held(), max_in_flight=PLACES, max_in_flight_per_peer=10)
    crowd(server)
    server.stop(0)
    assert settled(server, "abandoned") == CLIENTS


@pytest.mark.parametrize("places", [1, 100])
def test_what_an_ended_connection_had_said_and_nobody_had_read(
    serve: Any, open_files: Callable[[], int], places: int
) -> None:
    """Several requests of one client: none of them is begun with."""
    held = Held()
    server = serve(held, max_in_flight=places)
    served = server.client(zmq.REQ)
    served.send(b"first")
    eventually(lambda: held.began)
    before = open_files()
    client = server.client(zmq.DEALER)
    for number in range(5):
        client.send_multipart([b"", b"%d" % number])
    client.close(1000)
    until = time.monotonic() + DEADLINE
    while open_files() > before:  # the loop is blocked meanwhile
        assert time.monotonic() < until
    held.go.set()
    assert served.recv() == b"first"
    eventually(lambda: settled(server, "peer_gone") == 5)
    assert held.began == [b"first"]
