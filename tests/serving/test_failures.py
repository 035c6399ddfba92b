"""What a handler may do wrong, and what becomes of it."""

from __future__ import annotations

import logging
import pickle
import threading
from concurrent.futures import Future

import gevent
import pytest
import zmq
from gevent.event import AsyncResult

from green_router import AlreadyReplied, Reject, ReplyError, Server
from green_router.testing import eventually, settled


def fail(request):
    raise KeyError("no such thing")


def test_an_exception_is_logged_once_with_traceback_and_counted_and_the_client_gets_nothing(
    serve, caplog
):
    server = serve(fail)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"secret body"])
    eventually(lambda: settled(server, "failed"))
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info
    assert "fail" in record.getMessage()
    assert "secret body" not in record.getMessage()
    assert not client.poll(0)


@pytest.mark.parametrize(
    ("answer", "frames"),
    [
        (b"sorry", [b"sorry"]),
        ([b"error", b"7"], [b"error", b"7"]),
        (bytearray(b"sorry"), [b"sorry"]),
    ],
)
def test_on_error_decides_what_the_client_gets(serve, answer, frames):
    seen = []
    server = serve(
        fail, on_error=lambda request, error: seen.append((request.data, error)) or answer
    )
    client = server.client()
    client.send(b"x")
    assert client.recv_multipart() == frames
    assert seen[0][0] == b"x"
    assert isinstance(seen[0][1], KeyError)
    assert settled(server, "failed") == 1


def test_on_error_may_choose_silence(serve):
    server = serve(fail, on_error=lambda request, error: None)
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "failed"))


@pytest.mark.parametrize(
    "on_error",
    [lambda r, e: 1 / 0, lambda r, e: "text", lambda: None],
    ids=["raises", "text", "arguments"],
)
def test_an_on_error_that_fails_is_logged_counted_and_harmless(serve, caplog, on_error):
    server = serve(lambda r: b"ok" if r.data == b"good" else 1 / 0, on_error=on_error)
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "failed"))
    assert server.stats()["events"]["callback_errors"] == 1
    assert "on_error failed" in caplog.text
    assert server.ask(b"good") == b"ok"


def test_on_error_may_block(serve):
    server = serve(fail, on_error=lambda request, error: gevent.sleep(0.01) or b"sorry")
    assert server.ask(b"x") == b"sorry"


def test_a_handler_that_blocks_delays_nobody(serve):
    gate = gevent.event.Event()
    server = serve(lambda r: gate.wait() and b"late" if r.data == b"wait" else b"at once")
    waiting = server.client(zmq.DEALER)
    for _ in range(100):
        waiting.send_multipart([b"", b"wait"])
    for _ in range(100):
        assert server.ask(b"x") == b"at once"
    eventually(lambda: server.stats()["in_flight"] == 100)
    gate.set()
    for _ in range(100):
        assert waiting.recv_multipart() == [b"", b"late"]


def replies_twice(request):
    request.reply(b"first")
    with pytest.raises(AlreadyReplied, match="next request"):
        request.reply(b"second")


def replies_and_returns(request):
    request.reply(b"first")
    return b"second"


def replies_and_raises(request):
    request.reply(b"first")
    raise KeyError("after the reply")


def replies_twice_from_a_thread(request):
    outcome = []

    def work():
        request.reply(b"first")
        try:
            request.reply(b"second")
        except AlreadyReplied as error:
            outcome.append(error)

    gevent.get_hub().threadpool.apply(work)
    assert len(outcome) == 1


@pytest.mark.parametrize(
    "handler", [replies_twice, replies_and_returns, replies_and_raises, replies_twice_from_a_thread]
)
def test_one_reply_per_request(serve, handler):
    server = serve(handler)
    client = server.client()
    for _ in range(20):
        client.send(b"x")
        assert client.recv() == b"first"  # never the "second" of the request before
    assert settled(server, "answered") == 20
    assert server.stats()["events"]["late"] == (20 if handler is replies_and_returns else 0)


def test_of_many_threads_that_reply_at_once_one_wins(serve):
    def handler(request):
        barrier, errors = threading.Barrier(8), []

        def work(number):
            barrier.wait()
            try:
                request.reply(b"%d" % number)
            except AlreadyReplied as error:
                errors.append(error)

        pool = gevent.threadpool.ThreadPool(8)
        pool.map(work, range(8))
        pool.kill()
        assert len(errors) == 7

    server = serve(handler)
    client = server.client()
    for _ in range(10):
        client.send(b"x")
        assert len(client.recv()) == 1
    assert settled(server, "answered") == 10


def test_a_pickled_request_is_plain_data_and_cannot_reply(serve):
    copies = []

    def handler(request):
        copies.append(pickle.loads(pickle.dumps(request)))
        return b"ok"

    server = serve(handler)
    assert server.ask(b"one", b"two") == b"ok"
    copy = copies[0]
    assert copy.body == [b"one", b"two"]
    assert copy.data == b"one"
    assert copy.peer_address == "127.0.0.1"
    assert copy.age >= 0
    client_id, data = copy
    assert client_id == copy.routing_id
    assert data == b"one"
    with pytest.raises(ReplyError, match="return the reply"):
        copy.reply(b"x")


def test_a_generator_that_fails_half_way(serve):
    closed = []

    def handler(request):
        try:
            yield b"1"
            raise KeyError("half way")
        finally:
            closed.append(True)

    server = serve(handler, on_error=lambda request, error: b"broken off")
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    assert [client.recv_multipart()[1] for _ in range(2)] == [b"1", b"broken off"]
    assert closed
    assert settled(server, "failed") == 1


def test_a_generator_whose_client_has_gone_is_closed(serve):
    closed = gevent.event.Event()

    def handler(request):
        try:
            while True:
                yield b"x" * 1000
                gevent.sleep(0)
        finally:
            closed.set()

    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    client.recv_multipart()
    client.close(0)
    assert closed.wait(10)
    eventually(lambda: settled(server, "peer_gone") == 1)


def test_a_reply_to_a_client_that_has_gone_is_counted(serve):
    gate = gevent.event.Event()
    server = serve(lambda request: gate.wait() and b"x")
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["in_flight"])
    client.close(0)
    gevent.sleep(0.05)  # libzmq tells nobody that a peer has left
    gate.set()
    eventually(lambda: settled(server, "peer_gone") == 1)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_an_exit_in_a_handler_ends_the_server(error, caplog):
    def handler(request):
        raise error

    server = Server(handler, linger=0)
    server.bind("inproc://exit")
    client = zmq.green.Context.shadow(server.context.underlying).socket(zmq.DEALER)
    client.linger = 0
    client.connect("inproc://exit")
    client.send_multipart([b"", b"x"])
    closing = gevent.spawn_later(0.2, client.close)
    with pytest.raises(type(error)):
        server.serve_forever()
    closing.join()
    assert server.stats()["fates"]["failed"] == 1


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()], ids=repr)
@pytest.mark.parametrize("future", [Future, AsyncResult])
def test_an_exit_out_of_a_future_fails_its_request_alone(serve, caplog, future, error):
    """It was asked of another process or thread: of one in a pool that got Ctrl-C, say."""

    def handler(request):
        if request.data != b"end":
            return b"fine"
        result = future()
        result.set_exception(error)
        return result

    server = serve(handler, on_error=lambda request, error: type(error).__name__.encode())
    assert server.ask(b"end") == type(error).__name__.encode()
    assert server.ask(b"x") == b"fine"
    assert server.started
    assert settled(server, "failed") == 1


def test_an_error_outside_handlers_stops_the_server_and_is_raised(caplog):
    server = Server(lambda request: b"x", linger=0)
    server.bind("tcp://127.0.0.1:0")
    server.start()

    def broken():
        raise ZeroDivisionError("a bug")

    server._mailbox.put(broken)
    with pytest.raises(ZeroDivisionError):
        server.serve_forever()
    assert not server.started
    assert "an error outside handlers" in caplog.text


def test_each_request_has_a_context_of_its_own(serve):
    import contextvars

    variable = contextvars.ContextVar("variable", default=b"fresh")

    def handler(request):
        before = variable.get()
        variable.set(b"used")
        return before

    server = serve(handler)
    for _ in range(10):
        assert server.ask(b"x") == b"fresh"


def test_reject_with_something_that_is_no_reply_is_a_failure(serve):
    def handler(request):
        raise Reject("text")

    server = serve(handler, on_error=lambda request, error: type(error).__name__.encode())
    assert server.ask(b"x") == b"BadReply"
