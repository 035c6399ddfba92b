"""Services are told who is gone, and one that fails at that harms nobody."""

from __future__ import annotations

from typing import Any

import gevent

from green_router.testing import eventually


def ask(server: Any, data: bytes, **options: Any) -> Any:
    client = server.client(**options)
    client.send(data)
    return client


def test_services_are_told_who_is_gone(serve: Any) -> None:
    gone: list[bytes] = []
    server = serve(lambda request: request.routing_id, on_disconnect=gone.append)
    clients = [ask(server, b"x") for _ in range(3)]
    names = [client.recv() for client in clients]
    silent = server.client()
    eventually(lambda: server.stats()["connections"] == 4)
    silent.close(0)
    clients[1].close(0)
    eventually(lambda: gone == [names[1]])
    named = ask(server, b"x", routing_id=b"me")
    named.recv()
    again = ask(server, b"x", routing_id=b"me")
    again.recv()
    eventually(lambda: gone[1:] == [b"me"])
    named.close(0)
    again.close(0)
    eventually(lambda: gone[2:] == [b"me"])
    assert server.stats()["events"]["disconnected_busy"] == 0


def test_one_that_fails_or_hangs_harms_nobody(serve: Any) -> None:
    def gone(routing_id: bytes) -> None:
        if routing_id == b"hang":
            gevent.sleep(3600)
        raise ValueError(routing_id)

    server = serve(lambda request: b"done", on_disconnect=gone, handler_timeout=0.05)
    for name in (b"hang", b"fail"):
        client = ask(server, b"x", routing_id=name)
        client.recv()
        client.close(0)
    eventually(lambda: server.stats()["events"]["callback_errors"] == 2)
    assert server.ask(b"x") == b"done"
