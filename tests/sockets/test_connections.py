"""Which connection a message came by, whether it is open, and how it is dropped: with a real
ROUTER."""

from __future__ import annotations

import socket
import time

import pytest
import zmq

from green_router.sockets.connections import Connections, descriptor_of
from green_router.sockets.frames import frames_of
from green_router.testing import DEADLINE

ENDPOINTS = ("tcp://127.0.0.1:*", "ipc://*")


class Served:
    """A ROUTER with its connections, and clients."""

    def __init__(self, context: zmq.Context, endpoint: str = "tcp://127.0.0.1:*") -> None:
        self.context = context
        self.router = context.socket(zmq.ROUTER)
        self.router.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self.router.setsockopt(zmq.ROUTER_HANDOVER, 1)
        self.router.setsockopt(zmq.BACKLOG, 4096)
        self.connections = Connections(self.router)
        self.frames = frames_of(self.router, False)
        self.router.bind(endpoint)
        self.endpoint = self.router.getsockopt(zmq.LAST_ENDPOINT).rstrip(b"\0").decode()

    def ask(self, routing_id: bytes | None = None) -> zmq.Socket:
        """A client that has sent a request."""
        client = self.context.socket(zmq.REQ)
        client.linger = 0
        if routing_id is not None:
            client.setsockopt(zmq.ROUTING_ID, routing_id)
        client.connect(self.endpoint)
        client.send(b"x")
        return client

    def receive(self) -> tuple[list[bytes], object, float]:
        """Look, as the server does before it receives, and take a message."""
        until = time.monotonic() + DEADLINE
        while True:
            self.connections.look()
            now = time.monotonic()
            message = self.frames.receive(9)
            if message is not None:
                return (*message, now)
            assert time.monotonic() < until, "no message came"
            self.router.poll(10)

    def until(self, condition) -> None:
        """Look until it is so."""
        until = time.monotonic() + DEADLINE
        while not condition():
            assert time.monotonic() < until, "it has not come true"
            time.sleep(0.001)
            self.connections.look()

    def close(self) -> None:
        self.connections.close()
        self.router.close(0)


@pytest.fixture
def served(request):
    with zmq.Context() as context:
        served = Served(context, getattr(request, "param", ENDPOINTS[0]))
        yield served
        served.close()


on_each_transport = pytest.mark.parametrize("served", ENDPOINTS, indirect=True)


@on_each_transport
def test_a_message_names_its_connection_and_its_end_is_noticed(served) -> None:
    client, other = served.ask(), served.ask()
    messages = [served.receive()[1:] for _ in range(2)]
    assert [served.connections.connected(*message) for message in messages] == [True, True]
    one, two = (served.connections.of(*message) for message in messages)
    assert one is not two and {one, two} == set(served.connections.live.values())
    client.close()
    served.until(lambda: served.connections.ended)
    assert sorted(served.connections.connected(*message) for message in messages) == [False, True]
    other.close()
    served.until(lambda: len(served.connections.ended) == 2)
    assert not served.connections.live and not served.connections.fresh


def test_a_descriptor_that_is_used_again_is_another_connection(served) -> None:
    first = served.ask()
    message = served.receive()[1:]
    served.connections.look()
    first.close()
    served.until(lambda: served.connections.ended)
    second = served.ask()
    again = served.receive()[1:]
    if descriptor_of(message[0]) != descriptor_of(again[0]):
        pytest.skip("the descriptor was not used again")
    assert not served.connections.connected(*message) and served.connections.of(*message) is None
    assert served.connections.connected(*again)
    second.close()


def test_nobody_is_taken_for_another_where_both_may_be_meant(served) -> None:
    """An ended connection whose message is read when its descriptor belongs to another one."""
    first = served.ask()
    served.until(lambda: served.connections.live)
    assert served.router.poll(DEADLINE * 1000)
    first.close()
    served.until(lambda: served.connections.ended)
    second = served.ask()
    served.until(lambda: served.connections.live)
    if served.connections.ended[0].descriptor not in served.connections.live:
        pytest.skip("the descriptor was not used again")
    messages = [served.receive()[1:] for _ in range(2)]
    assert [served.connections.of(*message) for message in messages] == [None, None]
    assert all(served.connections.connected(*message) for message in messages)
    assert served.frames.receive(9) is None and served.connections.uncertain
    served.connections.seen_empty(lambda: served.router.poll(0))
    assert not served.connections.uncertain
    assert (
        served.connections.of(*messages[1])
        is served.connections.live[descriptor_of(messages[1][0])]
    )
    second.close()


@on_each_transport
def test_a_peer_is_dropped_and_may_come_back(served) -> None:
    client = served.ask(b"client")
    frames, *message = served.receive()
    connection = served.connections.of(*message)
    assert served.connections.drop(connection)
    served.until(lambda: connection in served.connections.ended)
    assert not served.connections.drop(connection) and not served.connections.connected(*message)
    served.until(lambda: served.connections.live)  # it has connected again, by itself
    assert frames == [b"client", b"", b"x"] and connection not in served.connections.live.values()
    client.close()


def test_who_says_nothing_is_known_as_well(served) -> None:
    host, _, port = served.endpoint.removeprefix("tcp://").partition(":")
    with socket.create_connection((host, int(port))):
        served.until(lambda: served.connections.fresh)
    served.until(lambda: not served.connections.fresh)
    assert len(served.connections.ended) == 1


@pytest.mark.parametrize("served", ["inproc://connections"], indirect=True)
def test_over_inproc_nothing_is_known(served) -> None:
    client = served.ask()
    message = served.receive()[1:]
    client.close()
    served.connections.look()
    assert descriptor_of(message[0]) is None
    assert served.connections.connected(*message) and served.connections.of(*message) is None


def test_events_that_nobody_has_read_stop_nobody(served) -> None:
    """More than any high-water mark: the I/O thread goes on."""
    host, _, port = served.endpoint.removeprefix("tcp://").partition(":")
    for _ in range(2500):
        socket.create_connection((host, int(port))).close()
    client = served.ask()
    assert served.router.poll(DEADLINE * 1000) and served.receive()[0][2] == b"x"
    ended, live = served.connections.ended, served.connections.live
    served.until(lambda: (len(ended), len(live)) == (2500, 1))  # it is read in parts
    client.close()


def test_ends_that_come_before_their_beginnings_cancel_out(served) -> None:
    """As with several I/O threads."""
    connections = served.connections
    connections._disconnected(77, 0.0)
    connections._accepted(77, 0.0)
    assert (
        not connections.live
        and not connections.fresh
        and [each.descriptor for each in connections.ended] == [77]
    )
    connections._accepted(77, 0.0)
    assert list(connections.live) == [77] and not connections.live[77].certain
