"""What a handler may return, and what the client gets: the table of DESIGN and README, row by row."""
from __future__ import annotations

import concurrent.futures
import logging

import gevent
import gevent.event
import gevent.threadpool
import pytest
import zmq

from green_router import Reject
from green_router.testing import eventually, settled

ROWS = [
    ("bytes", lambda r: b"reply", [b"reply"]),
    ("empty bytes", lambda r: b"", [b""]),
    ("bytes subclass", lambda r: type("B", (bytes,), {})(b"reply"), [b"reply"]),
    ("bytearray", lambda r: bytearray(b"reply"), [b"reply"]),
    ("memoryview", lambda r: memoryview(b"xreplyx")[1:-1], [b"reply"]),
    ("memoryview with steps", lambda r: memoryview(b"r-e-p-l-y")[::2], [b"reply"]),
    ("list", lambda r: [b"a", bytearray(b"b"), memoryview(b"c")], [b"a", b"b", b"c"]),
    ("list of one", lambda r: [b"a"], [b"a"]),
    ("pair", lambda r: (r.routing_id, b"reply"), [b"reply"]),
    ("pair with a list", lambda r: (r.routing_id, [b"a", b"b"]), [b"a", b"b"]),
    ("unpacked as in the loop", lambda r: (lambda client_id, data: (client_id, data.upper()))(*r), [b"QUESTION"]),
    ("indexed as in the loop", lambda r: (r[0], r[1].upper()), [b"QUESTION"]),
    ("reply called", lambda r: r.reply(b"reply"), [b"reply"]),
    ("reply called with frames", lambda r: r.reply(b"a", bytearray(b"b")), [b"a", b"b"]),
    ("reply called without frames", lambda r: r.reply(), [b""]),
    ("reply called later", lambda r: gevent.spawn_later(0.01, r.reply, b"reply") and None, [b"reply"]),
]


@pytest.mark.parametrize(("handler", "frames"), [pytest.param(h, f, id=name) for name, h, f in ROWS])
@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER], ids=["REQ", "DEALER"])
def test_results(serve, handler, frames, kind):
    server = serve(handler)
    client = server.client(kind)
    before = [b""] if kind == zmq.DEALER else []
    for _ in range(3):                          # a reused greenlet is as good as a new one
        client.send_multipart([*before, b"question"])
        assert client.recv_multipart() == [*before, *frames]
    assert settled(server, "answered") == 3


def executor_future(request):
    pool = concurrent.futures.ThreadPoolExecutor(1)
    future = pool.submit(request.data.upper)
    pool.shutdown(wait=False)
    return future


def done_future(request):
    future = concurrent.futures.Future()
    future.set_result(b"QUESTION")
    return future


def async_result(request):
    result = gevent.event.AsyncResult()
    gevent.spawn_later(0.01, result.set, b"QUESTION")
    return result


def threadpool_result(request):
    return gevent.get_hub().threadpool.spawn(lambda: b"QUESTION")


@pytest.mark.parametrize("handler", [
    executor_future, done_future, async_result, threadpool_result,
    pytest.param(lambda r: gevent.spawn(lambda: b"QUESTION"), id="greenlet"),
    pytest.param(lambda r: gevent.spawn(lambda: (r.routing_id, b"QUESTION")), id="greenlet with a pair"),
])
def test_futures(serve, handler):
    server = serve(handler)
    for _ in range(3):
        assert server.ask(b"question") == b"QUESTION"
    assert settled(server, "answered") == 3


def failing_future(request):
    future = concurrent.futures.Future()
    future.set_exception(KeyError("no such thing"))
    return future


def cancelled_future(request):
    future = concurrent.futures.Future()
    future.cancel()
    return future


@pytest.mark.parametrize(("handler", "error"), [
    (failing_future, "KeyError"), (cancelled_future, "CancelledError"),
    (lambda r: gevent.spawn(lambda: 1 / 0), "ZeroDivisionError"),
    (lambda r: gevent.spawn(lambda: "text"), "BadReply"),
])
def test_futures_that_fail(serve, handler, error):
    server = serve(handler, on_error=lambda request, error: type(error).__name__.encode())
    assert server.ask(b"x").decode() == error
    assert settled(server, "failed") == 1


def test_a_future_that_is_forgotten_is_no_reply(serve):
    server = serve(lambda request: gevent.event.AsyncResult())
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "no_reply"))


def test_a_stream(serve):
    def count(request):
        for number in range(int(request.data)):
            if number % 100 == 50:
                gevent.sleep(0)
            yield b"%d" % number
    server = serve(count)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"1000"])
    assert [client.recv_multipart()[1] for _ in range(1000)] == [b"%d" % n for n in range(1000)]
    eventually(lambda: settled(server, "answered"))
    assert server.stats()["events"]["parts"] == 1000


def test_an_empty_stream_is_no_reply(serve):
    server = serve(lambda request: iter(()))
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "no_reply"))


def test_a_stream_by_reply_more(serve):
    def handler(request):
        request.reply(b"1", more=True)
        request.reply(b"2", b"2b", more=True)
        assert not request.replied
        request.reply(b"3")
        assert request.replied
    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    assert [client.recv_multipart()[1:] for _ in range(3)] == [[b"1"], [b"2", b"2b"], [b"3"]]
    eventually(lambda: settled(server, "answered"))


def test_a_pair_for_another_client_reaches_it(serve):
    server = serve(lambda request: (b"listener", request.data))
    listener = server.client(zmq.DEALER, routing_id=b"listener")
    listener.send_multipart([b"", b"hello"])
    assert listener.recv_multipart() == [b"", b"hello"]
    asker = server.client(zmq.DEALER)
    asker.send_multipart([b"", b"from another"])
    assert listener.recv_multipart() == [b"", b"from another"]
    assert settled(server, "answered") == 1
    assert settled(server, "no_reply") == 1


@pytest.mark.parametrize(("result", "named"), [
    ("text", "str"), (5, "int"), ({"a": 1}, "dict"), (object(), "object"), (1.5, "float"), (True, "bool"),
    (["text"], "str"), ([], "list"), ([b"a", None], "NoneType"), ((b"id",), "tuple"), ((b"id", "text"), "str"),
    (("id", b"x"), "tuple"), ((1, 2, 3), "tuple"), (set(), "set"),
], ids=repr)
def test_anything_else_is_a_failure_that_names_type_and_handler(serve, caplog, result, named):
    seen = []

    def wrong_handler(request):
        return result

    server = serve(wrong_handler, on_error=lambda request, error: seen.append(error) or b"failed")
    assert server.ask(b"x") == b"failed"
    assert named in str(seen[0])
    assert "wrong_handler" in str(seen[0])
    assert settled(server, "failed") == 1


@pytest.mark.parametrize("frames", [("text",), (b"a", 5), (None,)], ids=repr)
def test_reply_with_something_else_raises_in_the_caller_and_sends_nothing(serve, frames):
    def handler(request):
        with pytest.raises(TypeError, match="handler"):
            request.reply(*frames)
        return b"still mine to answer"

    assert serve(handler).ask(b"x") == b"still mine to answer"


def test_reject_answers_with_exactly_that(serve):
    def handler(request):
        raise Reject(b"busy", b"try later")

    server = serve(handler, on_error=lambda *_: pytest.fail("a refusal is no error"))
    client = server.client()
    client.send(b"x")
    assert client.recv_multipart() == [b"busy", b"try later"]
    assert settled(server, "refused") == 1


def test_no_reply_is_counted_and_the_first_one_logged_with_a_hint(serve, caplog):
    caplog.set_level(logging.WARNING)
    server = serve(lambda request: None)
    client = server.client(zmq.DEALER)
    for _ in range(5):
        client.send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "no_reply") == 5)
    hints = [r for r in caplog.records if "waits for ever" in r.getMessage()]
    assert len(hints) == 1


def test_a_kept_request_is_in_flight_until_it_is_forgotten(serve):
    kept = []
    server = serve(kept.append)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"a"])
    client.send_multipart([b"", b"b"])
    eventually(lambda: len(kept) == 2)
    gevent.sleep(0)
    assert server.stats()["in_flight"] == 2
    kept.pop(0).reply(b"late")
    assert client.recv_multipart() == [b"", b"late"]
    kept.clear()
    eventually(lambda: settled(server, "no_reply") == 1)
    assert server.stats()["in_flight"] == 0
