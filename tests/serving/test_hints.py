"""What looks like a mistake is told once, with what to write instead."""

from __future__ import annotations

import logging

import gevent
import gevent.event
import gevent.threadpool
import pytest
import zmq

from green_router.testing import eventually, settled


def test_a_pair_for_nobody_is_logged_once_and_says_what_to_do(serve, caplog):
    """``return b"OK", b"payload"``, meant as two frames, is legal: a message to a client of that
    name."""

    def two_frames(request):
        return b"OK", b"payload"

    server = serve(two_frames)
    client = server.client(zmq.DEALER)
    for number in range(3):
        client.send_multipart([b"", b"x"])
        eventually(lambda number=number: server.stats()["events"]["lost_pushes"] == number + 1)
    eventually(lambda: caplog.records)
    [line] = [record.getMessage() for record in caplog.records]
    assert (
        "two_frames returned a tuple of two whose first item (2 bytes, 4f4b) is the routing id of "
        "no client" in line
    )
    assert "Several frames of one reply are a list." in line
    assert settled(server, "no_reply") == 3


AS_LOOPS_SEND = {
    b"id, data": lambda r: [r.routing_id, r.data],
    b"id, delimiter, data": lambda r: [r.routing_id, b"", r.data],
    b"pair": lambda r: (r.routing_id, [r.routing_id, b"", r.data]),
    b"reply": lambda r: r.reply(r.routing_id, b"", r.data),
    b"stream": lambda r: iter([[r.routing_id, b"", r.data]]),
    b"future": lambda r: gevent.spawn(lambda: [r.routing_id, b"", r.data]),
}


@pytest.mark.parametrize("way", AS_LOOPS_SEND)
def test_a_list_with_an_envelope_is_sent_as_told_and_warned_of_once(serve, caplog, way):
    def as_the_loop(request):
        return AS_LOOPS_SEND[request.data](request)

    server = serve(as_the_loop)
    client = server.client(zmq.DEALER, routing_id=b"me")
    for _ in range(3):
        client.send_multipart([b"", way])
        assert client.recv_multipart() == [b"", b"me", *([b""] if way != b"id, data" else []), way]
    eventually(lambda: caplog.records)
    [line] = [record.getMessage() for record in caplog.records]
    assert (
        "as_the_loop gave a list that begins with the routing id of the client that asked" in line
    )
    assert "Give data alone, or (client_id, data)." in line


def test_a_tuple_with_an_envelope_says_what_to_return(serve):
    server = serve(
        lambda r: (r.routing_id, b"", r.data), on_error=lambda request, error: str(error).encode()
    )
    said = server.ask(b"x").decode()
    assert (
        "returned tuple of 3, as a loop sends them: what stands before the data, the delimiter "
        "too, goes back by itself" in said
    )
    assert said.endswith("return data, or (client_id, data)")


def test_no_reply_is_counted_and_the_first_one_logged_with_a_hint(serve, caplog):
    caplog.set_level(logging.WARNING)
    server = serve(lambda request: None)
    client = server.client(zmq.DEALER)
    for _ in range(5):
        client.send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "no_reply") == 5)
    hints = [r for r in caplog.records if "waits for ever" in r.getMessage()]
    assert len(hints) == 1
