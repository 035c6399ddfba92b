"""A request that takes too long is answered at its deadline, and what it still does ends."""

from __future__ import annotations

import gevent
import pytest
import zmq

from green_router import AlreadyReplied, HandlerTimeout
from green_router.testing import eventually, settled


def slow(request):
    gevent.sleep(60)


def stubborn(request):
    while True:
        try:
            gevent.sleep(60)
        except BaseException:
            if request.data == b"busy":
                gevent.sleep(0.2)


def deferred(request):
    kept.append(request)


def of_a_future(request):
    kept.append(gevent.event.AsyncResult())
    return kept[-1]


def forever(request):
    while True:
        yield b"part"
        gevent.sleep(0.01)


kept = []


@pytest.mark.parametrize(
    "handler", [slow, stubborn, deferred, of_a_future], ids=lambda h: h.__name__
)
def test_a_request_that_takes_too_long_is_answered_at_its_deadline(serve, handler):
    server = serve(
        handler, handler_timeout=0.1, on_error=lambda request, error: type(error).__name__.encode()
    )
    assert server.ask(b"busy") == b"HandlerTimeout"
    assert settled(server, "timed_out") == 1
    kept.clear()


def test_the_greenlet_of_a_request_that_timed_out_is_killed_with_the_reason(serve):
    seen = []

    def handler(request):
        try:
            gevent.sleep(60)
        except HandlerTimeout as error:
            seen.append(error.seconds)
            return b"too late"

    server = serve(handler, handler_timeout=0.05)
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: seen == [0.05])
    eventually(lambda: server.stats()["events"]["late"] == 1)
    assert settled(server, "timed_out") == 1


def test_a_stream_ends_at_its_deadline(serve):
    server = serve(forever, handler_timeout=0.1, on_error=lambda request, error: b"over")
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    while (part := client.recv_multipart()[1]) != b"over":
        assert part == b"part"
    assert settled(server, "timed_out") == 1


def test_time_left(serve):
    server = serve(lambda request: b"%d" % (1000 * request.time_left), handler_timeout=5)
    assert 4000 < int(server.ask(b"x")) <= 5000
    assert serve(lambda request: repr(request.time_left).encode()).ask(b"x") == b"None"


def test_a_reply_after_the_deadline_raises_in_the_caller(serve):
    requests = []
    server = serve(requests.append, handler_timeout=0.05, on_error=lambda *_: b"over")
    assert server.ask(b"x") == b"over"
    with pytest.raises(AlreadyReplied):
        requests[0].reply(b"late")
    assert requests[0].replied
