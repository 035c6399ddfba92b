"""Clients that go: what they have asked is settled, no handler begins with it, and nobody else gets
the replies."""

from __future__ import annotations

import threading
from concurrent.futures import Future
from typing import Any

import gevent
import pytest
import zmq
from gevent.event import AsyncResult
from held import Held, ask

from green_router import until_ready
from green_router.errors import PeerGone
from green_router.testing import eventually, settled

TRANSPORTS = ("tcp://127.0.0.1:0", "ipc://*")


@pytest.mark.parametrize("endpoint", TRANSPORTS)
def test_no_handler_begins_for_a_client_that_is_gone(serve: Any, endpoint: str) -> None:
    held = Held()
    server = serve(held, endpoint, concurrency=1)
    first = ask(server, b"first")
    eventually(lambda: held.began)
    others: list[Any] = []
    for number in range(3):  # one behind the other: connections are in no order
        others.append(ask(server, b"%d" % number))
        eventually(lambda: server.stats()["waiting"] == len(others))
    others[1].close(0)
    eventually(lambda: settled(server, "peer_gone") == 1)
    stats = server.stats()
    assert (stats["events"]["disconnected_busy"], stats["connections"]) == (1, 3)
    held.go.set()
    assert [client.recv() for client in (first, others[0], others[2])] == [
        b"late first",
        b"late 0",
        b"late 2",
    ]
    assert [request.data for request in held.began] == [b"first", b"0", b"2"]


def test_a_running_handler_goes_on_and_can_see_it(serve: Any) -> None:
    held = Held()
    server = serve(held)
    client, other = ask(server, b"x"), ask(server, b"y")
    eventually(lambda: len(held.began) == 2)
    gone, there = sorted(held.began, key=lambda request: request.data)
    assert gone.connected and there.connected
    client.close(0)
    eventually(lambda: not gone.connected)
    assert there.connected and settled(server) == 0
    seen: list[bool] = []
    thread = threading.Thread(target=lambda: seen.append(gone.connected))
    thread.start()
    thread.join()
    assert seen == [False] and gone.peer_address == "127.0.0.1"
    held.go.set()
    assert other.recv() == b"late y"
    eventually(lambda: settled(server, "peer_gone") == 1)
    assert sorted(held.ended) == [False, True]


def test_a_running_handler_is_ended_where_that_is_wanted(serve: Any) -> None:
    held, errors = Held(), []
    server = serve(
        held, cancel_on_disconnect=True, on_error=lambda request, error: errors.append(error)
    )
    client = ask(server, b"x")
    eventually(lambda: held.began)
    client.close(0)
    eventually(lambda: held.ended == [PeerGone])
    assert (settled(server, "peer_gone"), settled(server), errors) == (1, 1, [])


def test_what_was_put_off_is_settled_and_its_place_is_free(serve: Any) -> None:
    kept: list[Any] = []
    server = serve(
        lambda request: (
            None if request.data == b"keep" and kept.append(request) is None else b"done"
        ),
        max_in_flight=2,
    )
    clients = [ask(server, b"keep") for _ in range(2)]
    eventually(lambda: len(kept) == 2)
    for client in clients:
        client.close(0)
    assert server.ask(b"x") == b"done"
    eventually(lambda: settled(server, "peer_gone") == 2)
    with pytest.raises(RuntimeError, match="given up"):
        kept[0].reply(b"too late")


def test_its_future_is_cancelled(serve: Any) -> None:
    futures: list[Any] = []

    def handle(request: Any) -> Any:
        futures.append(Future())
        return futures[-1]

    server = serve(handle)
    client = ask(server, b"x")
    eventually(lambda: futures)
    client.close(0)
    eventually(lambda: futures[0].cancelled())
    assert settled(server, "peer_gone") == settled(server) == 1
    assert server.stats()["events"]["late"] == 0


def test_a_result_that_cannot_be_cancelled_is_let_go(serve: Any) -> None:
    results: list[Any] = []

    def handle(request: Any) -> Any:
        if request.data == b"next":
            return b"next"
        results.append(AsyncResult())
        return results[-1]

    server = serve(handle)
    client = ask(server, b"x")
    eventually(lambda: results)
    client.close(0)
    eventually(lambda: settled(server, "peer_gone") == 1)
    results[0].set(b"late")
    assert server.ask(b"next") == b"next"
    eventually(lambda: settled(server) == 2)
    assert server.stats()["fates"]["answered"] == 1


def test_nobody_is_asked_again_whether_it_is_ready(serve: Any) -> None:
    asked = []
    server = serve(until_ready(lambda request: asked.append(1)))
    client = ask(server, b"x")
    eventually(lambda: len(asked) > 3)
    client.close(0)
    eventually(lambda: settled(server, "peer_gone") == 1)
    before = len(asked)
    gevent.sleep(0.05)
    assert len(asked) == before and not server._handlers.running


def test_who_goes_while_it_is_asked_is_not_asked_again(serve: Any) -> None:
    held = Held()
    server = serve(until_ready(lambda request: held(request) and None))
    client = ask(server, b"x")
    eventually(lambda: held.began)
    client.close(0)
    eventually(lambda: not held.began[0].connected)
    held.go.set()
    eventually(lambda: settled(server, "peer_gone") == 1)
    assert len(held.began) == 1


def test_a_handler_that_puts_off_what_nobody_waits_for(serve: Any) -> None:
    held, future = Held(), Future()
    server = serve(lambda request: held(request) and future)
    client = ask(server, b"x")
    eventually(lambda: held.began)
    client.close(0)
    eventually(lambda: not held.began[0].connected)
    held.go.set()
    eventually(lambda: settled(server, "peer_gone") == 1)
    eventually(future.cancelled)


# -- the same routing id again ---------------------------------------------------------------------


def test_a_reply_that_waits_for_a_full_peer_does_not_wait_for_the_next(serve: Any) -> None:
    server = serve(
        lambda request: bytes(100_000),
        send_high_water_mark=1,
        max_parked_bytes_per_peer=100_000_000,
    )
    old = server.client(zmq.DEALER, routing_id=b"me", rcvhwm=1, rcvbuf=4096)
    for _ in range(100):
        old.send_multipart([b"", b"x"])
    eventually(lambda: settled(server) + server.stats()["parked"] == 100)
    old.close(0)
    eventually(lambda: server.stats()["connections"] == 0)
    new = ask(server, b"x", routing_id=b"me")
    assert len(new.recv()) == 100_000
    eventually(lambda: server.stats()["parked"] == 0)
    assert settled(server, "peer_gone") > 10 and settled(server) == 101
    assert not new.poll(0)
