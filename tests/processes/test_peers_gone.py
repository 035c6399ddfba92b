"""Clients that go, where workers handle what they ask."""

from __future__ import annotations

from collections.abc import Callable

import zmq

from .conftest import DISPATCH, Service, balanced

APPLICATION = """
import gevent
kept, told = [], []
def handle_request(request):
    if request.data == b"told":
        return told or b""
    if request.data == b"keep":
        kept.append(request)
        return None
    while request.connected:
        gevent.sleep(0.01)
    told.append(b"seen")
    return b"late"
def on_disconnect(routing_id):
    told.append(routing_id)
"""


@DISPATCH
def test_workers_know_who_is_gone(service: Callable[..., Service], dispatch: str) -> None:
    server = service(
        APPLICATION,
        "--workers",
        "1",
        "--dispatch",
        dispatch,
        "--on-disconnect",
        "app:on_disconnect",
    )
    clients = []
    for number, data in enumerate((b"keep", b"run")):
        client = server.client(zmq.DEALER)
        client.setsockopt(zmq.ROUTING_ID, b"client %d" % number)
        client.disconnect(server.endpoint)
        client.connect(server.endpoint)
        client.send_multipart([b"", data])
        clients.append(client)
    server.wait_for(lambda stats: stats["sum"]["in_flight"] == 2)
    for client in clients:
        client.close(0)
    stats = server.wait_for(lambda stats: stats["sum"]["fates"]["peer_gone"] == 2)
    assert balanced(stats)
    asks = server.client()
    asks.send(b"told")
    assert sorted(asks.recv_multipart()) == [b"client 0", b"client 1", b"seen"]
