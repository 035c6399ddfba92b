"""``green_router.send``: a push by whoever has no server at hand."""

from __future__ import annotations

import gc
import os
import threading
import weakref
from typing import Any

import gevent
import pytest
import zmq

from green_router import Server, ServerStopped, StateError, WrongProcess, send
from green_router.serving.current import SERVERS, Servers

ANY_PORT = "tcp://127.0.0.1:0"


def subscribed(server: Any) -> zmq.Socket[bytes]:
    """A client that the server knows as ``me``."""
    client: zmq.Socket[bytes] = server.client(zmq.DEALER, routing_id=b"me")
    client.send_multipart([b"", b"x"])
    assert client.recv_multipart() == [b"", b"x"]
    return client


def test_it_reaches_the_clients_of_the_server_from_everywhere(serve: Any) -> None:
    """From a handler, from a greenlet and an OS thread that nobody has given a server."""

    def handle_request(request: Any) -> bytes:
        if request.data == b"push":
            send(b"me", b"from", b"a handler")
        return request.data

    server = serve(handle_request)
    client = subscribed(server)
    assert server.ask(b"push") == b"push"
    assert client.recv_multipart() == [b"", b"from", b"a handler"]
    gevent.spawn(send, b"me", b"from a greenlet").get()
    assert client.recv_multipart() == [b"", b"from a greenlet"]
    thread = threading.Thread(target=send, args=(b"me",))
    thread.start()
    assert client.recv_multipart() == [b"", b""]
    thread.join()
    with pytest.raises(ValueError, match="a routing id is 1 to 255 bytes"):
        send(b"", b"x")


def test_it_is_the_one_that_serves(serve: Any) -> None:
    """One that has ended is not meant, nor one that has not begun."""
    Server(print)
    first = serve(lambda request: request.data)
    first.stop()
    with pytest.raises(ServerStopped):
        send(b"me", b"x")
    client = subscribed(serve(lambda request: request.data))
    send(b"me", b"x")
    assert client.recv_multipart() == [b"", b"x"]
    serve(lambda request: request.data)
    with pytest.raises(StateError, match="2 servers serve in this process"):
        send(b"me", b"x")


def test_another_process_is_told_that_it_is_one(
    serve: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Until it has a server of its own."""
    parents, own = serve(lambda request: request.data), Server(print)
    here = os.getpid()
    with monkeypatch.context() as forked:
        forked.setattr(os, "getpid", lambda: here + 1)
        with pytest.raises(WrongProcess):
            send(b"me", b"x")
        SERVERS.enter(own)
        with pytest.raises(ServerStopped, match="send on a server that is new"):
            send(b"me", b"x")
    assert SERVERS.only() is parents
    SERVERS.leave(own)


class Sends:
    """Who notes what it is told to send."""

    def __init__(self) -> None:
        self.sent: list[Any] = []

    def send(self, routing_id: bytes, *frames: Any) -> None:
        self.sent.append((routing_id, *frames))


def test_nobody_is_kept_alive() -> None:
    servers = Servers()
    with pytest.raises(StateError, match="nothing is served in this process yet"):
        servers.only()
    one = Sends()
    servers.enter(one)
    assert servers.only() is one
    known = weakref.ref(one)
    del one
    gc.collect()
    assert known() is None
    with pytest.raises(ServerStopped):
        servers.only()


def test_one_is_known_once() -> None:
    servers, one, two = Servers(), Sends(), Sends()
    for server in (one, one, two):
        servers.enter(server)
    servers.leave(two)
    servers.leave(two)
    assert servers.only() is one
