"""What comes too late, for its deadline or for its stream: it is counted, and never leaves."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from contextlib import closing, suppress
from functools import partial
from time import monotonic

import gevent
import gevent.event
import pytest
import zmq

from green_router import AlreadyReplied, HandlerTimeout, Reject, Server
from green_router.messages.in_flight import InFlight
from green_router.messages.ledger import STREAM_ITEMS
from green_router.serving import windows
from green_router.serving.owner import BUDGET
from green_router.testing import (
    DEADLINE,
    PATIENCE,
    FakeClock,
    FakeRouter,
    assert_balanced,
    eventually,
    settled,
)

PART_BYTES = 100_000

TIMERS_WAIT = 50
"""Callbacks that gevent calls before it looks whether a timer is due (CALLBACK_CHECK_COUNT in its
loop)."""


def spin(seconds):
    until = monotonic() + seconds
    while monotonic() < until:
        pass


def over(request, error):
    return b"over"


def test_requests_that_wait_for_a_handler_are_answered_at_their_deadline_and_no_handler_sees_them(
    serve,
):
    """Handlers that compute for 10 ms each have a second's work, and only a fifth of that time."""
    seen = []

    def handler(request):
        seen.append(request.data)
        spin(0.01)
        return b"done"

    server = serve(handler, handler_timeout=0.2, on_error=over)
    client = server.client(zmq.DEALER)
    for number in range(100):
        client.send_multipart([b"", b"%d" % number])
    replies = [client.recv_multipart()[1] for _ in range(100)]
    assert set(replies) == {b"done", b"over"}
    assert replies.count(b"over") == settled(server, "timed_out") > 50
    late = server.stats()["events"]["late"]
    assert settled(server, "answered") == len(seen) - late, (
        "handled, or timed out; late ones are both"
    )
    assert late <= TIMERS_WAIT


def test_the_result_of_a_handler_that_never_gave_way_is_late(serve):
    def handler(request):
        spin(0.1)
        return b"late"

    server = serve(handler, handler_timeout=0.05, on_error=over)
    assert server.ask(b"x") == b"over"
    assert settled(server, "timed_out") == 1
    assert settled(server, "answered") == 0
    assert server.stats()["events"]["late"] == 1


@pytest.mark.parametrize("error", [ValueError("late"), Reject(b"late")])
def test_the_error_of_a_handler_that_never_gave_way_is_late(serve, error):
    def handler(request):
        spin(0.1)
        raise error

    explained = []
    server = serve(
        handler,
        handler_timeout=0.05,
        on_error=lambda request, error: explained.append(type(error)) or b"over",
    )
    assert server.ask(b"x") == b"over"
    assert settled(server, "timed_out") == 1
    assert explained == [HandlerTimeout]
    assert server.stats()["fates"]["failed"] == server.stats()["fates"]["rejected"] == 0


def by_yield(request, parts):
    yield from parts


def by_reply(request, parts):
    with closing(parts):
        for part in parts:
            request.reply(part, final=False)
        request.reply(b"end")


@pytest.mark.parametrize("send", [by_yield, by_reply])
def test_no_part_leaves_after_one_that_was_lost(serve, send):
    """The client reads on, so there is room again, and the handler has more to say."""
    lost, ended = gevent.event.Event(), []

    def parts():
        try:
            for number in range(60):
                if number == 50:
                    lost.wait()
                yield b"%d " % number + bytes(PART_BYTES)
        finally:
            ended.append(True)

    server = serve(
        lambda request: send(request, parts()) if request.data == b"stream" else request.data,
        send_high_water_mark=2,
        park_timeout=0.1,
    )
    client = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)
    client.send_multipart([b"", b"stream"])
    eventually(lambda: settled(server, "peer_stalled") == 1)
    client.send_multipart([b"", b"next"])
    received = []
    while not received or received[-1] != b"next":
        received.append(client.recv_multipart()[1].split(b" ")[0])
    lost.set()
    eventually(lambda: ended)
    client.send_multipart([b"", b"last"])
    received.append(client.recv_multipart()[1])
    assert received == [*(b"%d" % number for number in range(len(received) - 2)), b"next", b"last"]
    assert server.stats()["events"]["lost_stream_items"] > 0
    assert settled(server, "peer_stalled") == 1
    eventually(lambda: not server.stats()["in_flight"])


def test_a_part_that_another_thread_sends_after_the_last_one_never_leaves(serve, monkeypatch):
    """As if the thread of the part had been held up after it had looked whether there is still
    something to reply to."""

    def handler(request):
        if request.data == b"stream":

            def meanwhile(in_flight, request):
                monkeypatch.undo()
                request.reply(b"last")
                return True

            monkeypatch.setattr(InFlight, "owes", meanwhile)
            request.reply(b"part", final=False)
            with pytest.raises(AlreadyReplied):
                request.reply(b"another", final=False)
            return None
        return request.data

    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"stream"])
    client.send_multipart([b"", b"next"])
    assert [client.recv_multipart()[1] for _ in range(2)] == [b"last", b"next"]
    assert server.stats()["events"]["lost_stream_items"] == 1
    assert settled(server, "answered") == 2


def test_the_last_reply_does_not_leave_behind_parts_that_have_waited_too_long(serve, monkeypatch):
    """It waits behind them and is younger: what the client gets is the beginning of a stream,
    without a hole and an end."""
    # That so much of one stream waits at once.
    monkeypatch.setattr(windows, "STREAM_BYTES", 100 * PART_BYTES)
    server = serve(
        lambda request: (
            by_reply(request, (b"%d " % number + bytes(PART_BYTES) for number in range(60)))
            if request.data == b"stream"
            else request.data
        ),
        send_high_water_mark=2,
        max_parked_bytes_per_peer=400 * PART_BYTES,
    )
    client = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)
    client.send_multipart([b"", b"stream"])
    parking = server._owner.parking
    eventually(lambda: parking.unsettled == 1)

    def time_passes_for_parts():
        (queue,) = parking.peers.values()
        queue.items = deque(
            (item, size, parked_at - 1000 * (item[2] == STREAM_ITEMS))
            for item, size, parked_at in queue.items
        )
        parking._oldest -= 1000
        parking.retry()

    server._mailbox.put(time_passes_for_parts)
    eventually(lambda: server.stats()["events"]["lost_stream_items"])
    client.send_multipart([b"", b"next"])
    received = []
    while not received or received[-1] != b"next":
        received.append(client.recv_multipart()[1].split(b" ")[0])
    assert received == [*(b"%d" % number for number in range(len(received) - 1)), b"next"]
    assert settled(server, "peer_stalled") == 1


def late_part(request, number):
    """As a thread does that has not heard yet that the stream is at its end."""
    with suppress(AlreadyReplied):
        request.reply(b"%d" % number, final=False)


def test_a_stream_whose_item_was_lost_ends_there_whatever_is_called_later():
    """Items are in the mailbox, one is lost, somebody has one more to send, the peer has room
    again: nothing of it arrives."""
    with FakeClock() as clock:
        router, requests = FakeRouter(1), []
        server = Server(requests.append, router.parts, max_parked_bytes_per_peer=0)
        server.start()
        peer = router.connect(b"peer")
        peer.send(b"", b"x")
        clock.advance(0)
        request, put = requests[0], server._mailbox.put

        def send_all():
            """HUB. Before the owner has its turn."""
            for number in range(BUDGET):
                late_part(request, number)
            put(partial(late_part, request, BUDGET))
            put(peer.take)
            put(server._owner._readable)  # libzmq learns of it by any call
            for number in range(BUDGET + 1, 200):
                put((request, b"%d" % number, STREAM_ITEMS))

        gevent.get_hub().loop.run_callback(send_all)
        clock.advance(1)
        peer.take()
        assert peer.received == [[b"", b"0"]]
        assert server.stats()["fates"]["peer_stalled"] == 1
        assert server.stats()["events"]["lost_stream_items"] == 198
        with pytest.raises(AlreadyReplied):
            request.reply(b"end")
        stopping = gevent.spawn(server.stop, 0)
        clock.advance(1)
    stopping.get(timeout=10 * PATIENCE)
    assert_balanced(server)


def test_an_item_that_waits_keeps_nothing_of_its_request_but_the_envelope():
    """Nor does what it was asked with stay when the stream has ended and its items wait."""
    with FakeClock() as clock:
        router, alive = FakeRouter(1), []

        def handler(request):
            alive.append(weakref.ref(request))
            for _ in range(5):
                yield b"part"

        server = Server(handler, router.parts)
        server.start()
        peer = router.connect(b"peer")
        peer.send(b"", bytes(PART_BYTES))
        clock.advance(0)
        assert server.stats()["parked"] == 5  # four, and the end
        gc.collect()
        assert alive[0]() is None
        assert not server._owner.parking.streams.known
        while peer.take():
            clock.advance(1)
        assert peer.received == [[b"", b"part"]] * 5
        assert server.stats()["fates"]["answered"] == 1
        stopping = gevent.spawn(server.stop, 0)
        clock.advance(1)
    stopping.get(timeout=10 * PATIENCE)
    assert_balanced(server)


@pytest.mark.parametrize("send", [by_yield, by_reply])
def test_what_waits_before_the_last_reply_leaves_before_it(serve, send):
    """A slow client gets the whole stream: parts are too late only if they come behind the last
    reply."""
    server = serve(
        lambda request: send(
            request, (b"%d " % number + bytes(PART_BYTES) for number in range(60))
        ),
        send_high_water_mark=2,
    )
    client = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)
    client.send_multipart([b"", b"stream"])
    eventually(lambda: server.stats()["parked"])
    received = [client.recv_multipart()[1].split(b" ")[0] for _ in range(60 + (send is by_reply))]
    assert received == [*(b"%d" % number for number in range(60)), *[b"end"] * (send is by_reply)]
    eventually(lambda: settled(server, "answered") == 1)
    assert server.stats()["events"]["stream_items"] == 60
    assert server.stats()["events"]["lost_stream_items"] == 0


@pytest.mark.parametrize("correlate", [False, True])
def test_where_replies_follow_the_routing_id_a_client_gets_the_reply_to_its_old_question(
    serve, correlate
):
    """A REQ takes the first that comes for its answer, unless it correlates."""
    gate = gevent.event.Event()

    def handle(request):
        gate.wait()
        return b"to " + request.data

    server = serve(handle, replies_follow_routing_id=True)
    first = server.client(zmq.REQ, routing_id=b"me", req_correlate=correlate)
    first.send(b"the old question")
    eventually(lambda: server.stats()["in_flight"] == 1)
    first.close(0)
    second = server.client(zmq.REQ, routing_id=b"me", req_correlate=correlate)
    second.send(b"the new question")
    eventually(lambda: server.stats()["in_flight"] == 2)
    gate.set()
    with gevent.Timeout(DEADLINE):
        assert second.recv() == (b"to the new question" if correlate else b"to the old question")
