"""The setting ``concurrency``: how many handlers run at once, while the others wait in order of
arrival."""

from __future__ import annotations

import logging
import time

import gevent
import pytest
import zmq

from green_router import ConfigError, Server
from green_router.testing import PATIENCE, eventually, settled


def ask_all(server, count):
    client = server.client(zmq.DEALER)
    for number in range(count):
        client.send_multipart([b"", b"%d" % number])
    return client


@pytest.mark.parametrize("limit", [1, 3])
def test_no_more_run_at_once_and_they_begin_in_order(serve, limit, caplog):
    running, most, begun = [0], [0], []

    def handle(request):
        begun.append(request.data)
        running[0] += 1
        most[0] = max(most[0], running[0])
        gevent.sleep(0.001 if int(request.data) % 2 else 0)
        running[0] -= 1
        return request.data

    with caplog.at_level(logging.INFO):
        server = serve(handle, concurrency=limit)
        client = ask_all(server, 60)
        replies = [client.recv_multipart()[1] for _ in range(60)]
    assert most[0] == limit
    assert begun == [b"%d" % number for number in range(60)]
    assert limit > 1 or replies == begun
    assert "overload" not in caplog.text


def test_without_it_they_overlap(serve):
    gate = gevent.event.Event()
    server = serve(lambda request: gate.wait() and b"")
    ask_all(server, 20)
    eventually(lambda: server._handlers.running == 20)
    gate.set()
    eventually(lambda: settled(server, "answered") == 20)


def test_handlers_that_do_not_block_are_as_ever(serve):
    server = serve(lambda request: request.data, concurrency=1)
    client = ask_all(server, 500)
    assert [client.recv_multipart()[1] for _ in range(500)] == [
        b"%d" % number for number in range(500)
    ]


def test_waiting_is_no_overload_and_counts_as_waiting(serve):
    gate = gevent.event.Event()
    server = serve(lambda request: gate.wait() and b"", concurrency=2)
    ask_all(server, 10)
    eventually(lambda: server.stats()["received"] == 10)
    assert (server.stats()["in_flight"], server.stats()["waiting"]) == (2, 8)
    gate.set()
    eventually(lambda: settled(server, "answered") == 10)


def test_a_deadline_makes_room_for_the_next(serve):
    """The handler in hand is killed at its deadline; those that wait past theirs are answered
    too."""
    timeout, all_in = 0.2 * PATIENCE, []

    def handle(request):
        if request.data == b"0":
            try:
                gevent.sleep(60)
            finally:  # has its place, and the loop, until the others' deadlines have passed as well
                while time.monotonic() <= all_in[0] + timeout:
                    pass
        return request.data

    server = serve(
        handle, concurrency=1, handler_timeout=timeout, on_error=lambda request, error: b"too late"
    )
    client = ask_all(server, 3)
    eventually(lambda: server.stats()["waiting"] == 2)
    all_in.append(time.monotonic())
    assert [client.recv_multipart()[1] for _ in range(3)] == [b"too late"] * 3
    assert server.ask(b"9") == b"9"


@pytest.mark.parametrize("end", ["error", "reject", "kill", "stream", "none"])
def test_every_end_of_a_handler_makes_room(serve, end):
    kept = []

    def handle(request):
        if end == "error":
            raise ValueError
        if end == "kill":
            gevent.getcurrent().kill(block=False)
            gevent.sleep(60)
        if end == "stream":
            return (request.data for _ in range(2))
        if end == "none":
            kept.append(request)
            return None
        from green_router import Reject

        raise Reject(b"no")

    server = serve(handle, concurrency=1)
    ask_all(server, 5)
    eventually(lambda: server.stats()["received"] == 5)
    eventually(lambda: server.stats()["waiting"] == 0 and server._handlers.running == 0)
    for request in kept:
        request.reply(b"")
    eventually(lambda: settled(server) == 5)


def test_on_error_takes_no_place(serve):
    """It may block while the next handler runs."""
    gate = gevent.event.Event()

    def handle(request):
        if request.data == b"0":
            raise ValueError
        return request.data

    server = serve(handle, concurrency=1, on_error=lambda request, error: gate.wait() and b"failed")
    client = ask_all(server, 2)
    assert client.recv_multipart()[1] == b"1"
    gate.set()
    assert client.recv_multipart()[1] == b"failed"


@pytest.mark.parametrize("value", [0, -1, 1.5, "2", True])
def test_a_wrong_one_is_refused(value):
    with pytest.raises(ConfigError, match="concurrency"):
        Server(lambda request: b"", concurrency=value)
