"""A future, of whichever kind, is the reply when it is done."""

from __future__ import annotations

import concurrent.futures

import gevent
import gevent.event
import gevent.threadpool
import pytest
import zmq

from green_router.testing import eventually, settled


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


@pytest.mark.parametrize(
    "handler",
    [
        executor_future,
        done_future,
        async_result,
        threadpool_result,
        pytest.param(lambda r: gevent.spawn(lambda: b"QUESTION"), id="greenlet"),
        pytest.param(
            lambda r: gevent.spawn(lambda: (r.routing_id, b"QUESTION")), id="greenlet with a pair"
        ),
    ],
)
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


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (failing_future, "KeyError"),
        (cancelled_future, "CancelledError"),
        (lambda r: gevent.spawn(lambda: 1 / 0), "ZeroDivisionError"),
        (lambda r: gevent.spawn(lambda: "text"), "BadReply"),
    ],
)
def test_futures_that_fail(serve, handler, error):
    server = serve(handler, on_error=lambda request, error: type(error).__name__.encode())
    assert server.ask(b"x").decode() == error
    assert settled(server, "failed") == 1


def test_a_future_that_is_forgotten_is_no_reply(serve):
    server = serve(lambda request: gevent.event.AsyncResult())
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "no_reply"))
