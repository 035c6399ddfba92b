"""``async def`` handlers and async generators: what a greenlet's handler may do, they may, and
nobody waits for them."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import subprocess
import sys
import threading
import time
import traceback
from concurrent.futures import Future, ThreadPoolExecutor

import gevent
import pytest
import zmq

from green_router import AlreadyReplied, Reject
from green_router.serving import coroutines
from green_router.serving.asyncio_thread import asyncio_thread
from green_router.testing import DEADLINE, eventually, settled

ITEM = bytes(100_000)


def finished(answer):
    done: Future[object] = Future()
    done.set_result(answer)
    return done


async def later(request):
    """A coroutine of its own answers, after the handler's has returned nothing."""
    asyncio.get_running_loop().call_later(0.001, request.reply, b"later")


async def by_thread(request):
    return await asyncio.to_thread(request.data.title)


RESULTS = {
    "bytes": (lambda request: b"reply", b"reply"),
    "frames": (lambda request: [b"two", b"frames"], b"frames"),
    "pair": (lambda request: (request.routing_id, b"reply"), b"reply"),
    "a future": (lambda request: finished(b"reply"), b"reply"),
    "a coroutine": (by_thread, b"X"),
    "nothing yet": (later, b"later"),
}


@pytest.mark.parametrize("name", RESULTS)
def test_what_it_may_return(serve, name):
    answer, expected = RESULTS[name]

    async def handler(request):
        await asyncio.sleep(0)
        return await answer(request) if name == "nothing yet" else answer(request)

    server = serve(handler)
    assert server.ask(b"x") == expected
    assert server.stats()["fates"]["answered"] == 1


class Service:
    async def __call__(self, request):
        return request.data.upper()

    async def handle(self, request):
        return request.data.upper()


@pytest.mark.parametrize(
    "handler",
    [Service(), Service().handle, lambda request: Service()(request)],
    ids=["__call__", "method", "def that returns one"],
)
def test_its_other_shapes(serve, handler):
    assert serve(handler).ask(b"x") == b"X"


@pytest.mark.parametrize(
    ("error", "fate"),
    [
        (ValueError("no"), "failed"),
        (Reject(b"no"), "rejected"),
        (asyncio.CancelledError(), "failed"),
    ],
)
def test_an_exception_is_a_failure_like_any_other(serve, caplog, error, fate):
    async def handler(request):
        await asyncio.sleep(0)
        raise error

    server = serve(handler, on_error=lambda request, error: repr(error).encode())
    assert server.ask(b"x") == (b"no" if fate == "rejected" else repr(error).encode())
    assert server.stats()["fates"][fate] == 1
    assert ("failed on <Request from" in caplog.text) == (fate == "failed")
    assert ("in handler\n" in caplog.text) == (fate == "failed"), "its traceback shows where"


@pytest.mark.parametrize("result", ["a text", 7])
def test_what_is_no_reply_is_a_failure(serve, caplog, result):
    async def handler(request):
        return result

    server = serve(handler, on_error=lambda request, error: type(error).__name__.encode())
    assert server.ask(b"x") == b"BadReply"
    assert "handler returned" in caplog.text


def test_the_context_of_its_request_reaches_it(serve):
    variable = contextvars.ContextVar("variable", default=b"nothing")
    variable.set(b"of the server's start")

    async def handler(request):
        before = variable.get()
        variable.set(request.data)
        await asyncio.sleep(0.002)
        return [before, variable.get()]

    server = serve(handler)
    clients = [server.client(zmq.REQ) for _ in range(5)]
    for number, client in enumerate(clients):
        client.send(b"%d" % number)
    assert [client.recv_multipart() for client in clients] == [
        [b"of the server's start", b"%d" % n] for n in range(5)
    ]


def test_no_more_are_at_work_than_concurrency_says(serve):
    most = now = 0

    async def handler(request):
        nonlocal most, now
        now += 1
        most = max(most, now)
        await asyncio.sleep(0.002)
        now -= 1
        return b""

    client = serve(handler, concurrency=3).client(zmq.DEALER)
    for _ in range(20):
        client.send_multipart([b"", b""])
    for _ in range(20):
        client.recv_multipart()
    assert most == 3


# -- what ends it ----------------------------------------------------------------------------------


def test_a_deadline_cancels_it(serve, caplog):
    ended = threading.Event()

    async def handler(request):
        try:
            await asyncio.sleep(100)
        finally:
            ended.set()

    server = serve(
        handler, handler_timeout=0.05, on_error=lambda request, error: type(error).__name__.encode()
    )
    assert server.ask(b"x") == b"HandlerTimeout"
    assert ended.wait(DEADLINE)
    assert settled(server, "timed_out") == 1
    eventually(lambda: not server._results.coroutines.alive)
    assert "failed" not in caplog.text


def test_one_that_does_not_listen_is_too_late(serve):
    """Its reply left at the deadline; what it returns in the end is counted."""
    go_on = threading.Event()

    async def handler(request):
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return b"too late"

    server = serve(handler, handler_timeout=0.05, on_error=lambda request, error: b"on time")
    assert server.ask(b"x") == b"on time"
    assert server._results.coroutines.alive
    go_on.set()
    eventually(lambda: server.stats()["events"]["late"] == 1)


def test_one_that_blocks_the_loop_does_not_stop_the_hub(serve):
    """Deadlines hold, greenlets serve; the coroutine that had not begun never does."""
    go_on, begun = threading.Event(), []

    async def handler(request):
        begun.append(request.data)
        go_on.wait(DEADLINE)
        return b""

    blocked = serve(handler, handler_timeout=0.05, on_error=lambda request, error: b"on time")
    other = serve(lambda request: request.data)
    first, second = blocked.client(zmq.REQ), blocked.client(zmq.REQ)
    first.send(b"first")
    eventually(lambda: begun)
    second.send(b"second")
    assert other.ask(b"served") == b"served"
    assert first.recv() == second.recv() == b"on time"
    go_on.set()
    eventually(lambda: not blocked._results.coroutines.alive)
    assert begun == [b"first"]


def test_a_drain_waits_for_it_and_for_what_it_does_after_its_reply(serve):
    goes_on, done = threading.Event(), []

    async def handler(request):
        request.reply(b"reply")
        while not goes_on.is_set():
            await asyncio.sleep(0.001)
        done.append(request.data)

    server = serve(handler)
    assert server.ask(b"x") == b"reply"
    stopping = gevent.spawn(server.stop, DEADLINE)
    gevent.sleep(0.02)
    assert not stopping.ready()
    goes_on.set()
    stopping.join()
    assert done == [b"x"]


@pytest.mark.parametrize("replies_first", [False, True])
def test_after_grace_it_is_cancelled_and_its_finally_runs(serve, replies_first):
    events = []

    async def handler(request):
        if replies_first:
            request.reply(b"reply")
        try:
            events.append("begun")
            await asyncio.sleep(100)
        finally:
            await asyncio.sleep(0.001)
            events.append("rolled back")

    server = serve(handler)
    client = server.client(zmq.REQ)
    client.send(b"x")
    eventually(lambda: events)
    server.stop(0.01)
    assert events == ["begun", "rolled back"]
    assert server.stats()["fates"]["abandoned"] == (not replies_first)


def test_the_end_waits_for_none_that_does_not_listen(serve, monkeypatch):
    monkeypatch.setattr(coroutines, "END_SECONDS", 0.05)
    go_on = threading.Event()

    async def handler(request):
        while not go_on.is_set():
            try:
                await asyncio.sleep(1)
            except asyncio.CancelledError:
                await asyncio.sleep(0.005)

    server = serve(handler)
    server.client(zmq.REQ).send(b"x")
    eventually(lambda: server._results.coroutines.alive)
    began = time.monotonic()
    server.stop(0)
    assert time.monotonic() - began < DEADLINE / 2
    go_on.set()
    asyncio_thread().call(
        lambda: [task.cancel() for task in asyncio.all_tasks(asyncio_thread().loop)]
    )
    eventually(lambda: not server._results.coroutines.alive)


def test_a_future_is_cancelled_with_its_request(serve):
    """What waits in an executor does not begin."""
    done, gate = [], threading.Event()
    with ThreadPoolExecutor(1) as pool:
        server = serve(
            lambda request: pool.submit(work, request.data),
            handler_timeout=0.1,
            on_error=lambda request, error: type(error).__name__.encode(),
        )

        def work(data):
            done.append(data)
            gate.wait(DEADLINE)
            return data

        first, second = server.client(zmq.REQ), server.client(zmq.REQ)
        first.send(b"first")
        eventually(lambda: done)
        second.send(b"second")
        assert first.recv() == second.recv() == b"HandlerTimeout"
        gevent.sleep(0)
        gate.set()
    assert done == [b"first"]
    eventually(lambda: server.stats()["events"]["late"] == 1)


# -- what it may call ------------------------------------------------------------------------------


def test_reply_and_send(serve):
    async def handler(request):
        request.reply(b"once")
        await asyncio.sleep(0)
        server.send(request.routing_id, b"pushed")
        try:
            request.reply(b"twice")
        except AlreadyReplied:
            server.send(request.routing_id, b"refused")

    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b""])
    assert [client.recv_multipart()[1] for _ in range(3)] == [b"once", b"pushed", b"refused"]


def test_items_that_it_replies_with_never_block_the_loop(serve):
    """A client that does not read would hold up all coroutines: they go out, and are lost where too
    much waits."""
    server = serve(
        streams_by_reply, send_high_water_mark=1, max_parked_bytes_per_peer=4 * len(ITEM)
    )
    slow = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)
    slow.send_multipart([b"", b"many"])
    assert server.ask(b"one") == b"one"
    eventually(lambda: settled(server, "peer_stalled") == 1)


async def streams_by_reply(request):
    for _ in range(100 if request.data == b"many" else 0):
        await asyncio.sleep(0)
        request.reply(ITEM, final=False)
    return request.data


# -- streams ---------------------------------------------------------------------------------------


def test_an_async_generator_is_a_stream(serve):
    async def handler(request):
        for number in range(3):
            await asyncio.sleep(0)
            yield [b"%d" % number, b"end"]

    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b""])
    assert [client.recv_multipart() for _ in range(3)] == [
        [b"", b"%d" % number, b"end"] for number in range(3)
    ]
    eventually(lambda: settled(server, "answered") == 1)
    assert server.stats()["events"]["stream_items"] == 3


def test_an_empty_stream_is_no_reply(serve):
    async def handler(request):
        for item in ():
            yield item

    server = serve(handler)
    server.client(zmq.DEALER).send_multipart([b"", b""])
    eventually(lambda: settled(server, "no_reply") == 1)


def test_it_runs_no_further_ahead_than_its_window(serve):
    """And loses nothing, though what it yields is many times what may be parked. Others are served
    meanwhile."""
    made, count = 0, 60

    async def handler(request):
        nonlocal made
        if request.data == b"quick":
            yield b"quick"
            return
        for number in range(count):
            made += 1
            yield b"%d " % number + ITEM

    server = serve(handler, send_high_water_mark=2, max_parked_bytes_per_peer=8 * len(ITEM))
    slow = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)
    slow.send_multipart([b"", b""])
    eventually(lambda: server.stats()["parked_bytes"])
    assert server.ask(b"quick") == b"quick"
    gevent.sleep(0.05)
    ahead, most, got = made, 0, []
    assert ahead < 40, "the socket's buffers hold some"
    with gevent.Timeout(DEADLINE):
        while len(got) < count:
            most = max(most, server.stats()["parked_bytes"])
            got.append(int(slow.recv_multipart()[1].split(b" ")[0]))
    assert got == list(range(count))
    assert 0 < most < 4 * len(ITEM)
    eventually(lambda: settled(server, "answered") == 2)


@pytest.mark.parametrize("waits", ["for itself", "for the client"])
def test_a_deadline_ends_a_stream(serve, waits):
    closed = threading.Event()

    async def handler(request):
        try:
            yield b"item"
            if waits == "for itself":
                await asyncio.sleep(100)
            while True:
                yield ITEM
        finally:
            closed.set()

    server = serve(
        handler,
        handler_timeout=0.1,
        send_high_water_mark=1,
        max_parked_bytes_per_peer=4 * len(ITEM),
    )
    client = server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)
    client.send_multipart([b"", b""])
    assert client.recv_multipart()[1] == b"item"
    eventually(lambda: settled(server, "timed_out") == 1)
    assert closed.wait(DEADLINE)
    eventually(lambda: not server._results.coroutines.alive)


def test_an_exception_ends_a_stream(serve):
    async def handler(request):
        yield b"item"
        raise ValueError

    server = serve(handler, on_error=lambda request, error: type(error).__name__.encode())
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b""])
    assert [client.recv_multipart()[1] for _ in range(2)] == [b"item", b"ValueError"]


# -- processes -------------------------------------------------------------------------------------


def test_a_fork_has_a_loop_of_its_own(serve):
    """The child of a server with coroutines serves them too, in a thread of its own, and the
    parent's go on."""

    async def handler(request):
        await asyncio.sleep(0.001)
        return b"%d" % os.getpid()

    server = serve(handler)
    assert server.ask(b"") == b"%d" % os.getpid()
    server.close_clients()  # sockets of zmq.green spin in a forked child
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            from green_router.testing import running_server

            with running_server(handler) as own:
                code = 0 if own.ask(b"") == b"%d" % os.getpid() else 2
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert server.ask(b"") == b"%d" % os.getpid()


def test_a_coroutine_that_forks_comes_back_in_the_parent_only(serve, capfd):
    async def handler(request):
        await asyncio.sleep(0)
        pid = os.fork()
        if pid == 0:
            return b"from the child"
        code = await asyncio.to_thread(os.waitpid, pid, 0)
        return b"%d" % os.waitstatus_to_exitcode(code[1])

    server = serve(handler)
    assert server.ask(b"") == b"1"
    assert server.ask(b"") == b"1", "the loop goes on"
    assert "a coroutine that has forked came back in the child" in capfd.readouterr().err


def program(text, **environment):
    return subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=os.environ | environment,
        check=False,
    )


def test_a_patched_process_is_refused():
    """At once where it is seen, otherwise with the request."""
    told = program("""
from gevent import monkey; monkey.patch_all()
from green_router import ConfigError
from green_router.testing import running_server
async def handler(request):
    return b""
def on_error(request, error):
    return str(error).encode()
try:
    with running_server(handler):
        pass
except ConfigError as error:
    print(error)
with running_server(lambda request: handler(request), on_error=on_error) as server:
    print(server.ask(b"").decode())
""")
    first, second = told.stdout.splitlines()
    assert first.startswith("handler = <function handler at"), told.stderr
    for line in (first, second):
        assert line.endswith(
            "run it unpatched, without monkey.patch_all(), or with green-router serve --no-patch"
        )


def test_the_end_of_the_process_is_quiet():
    """Tasks that are left are cancelled, and have time for what they do then; SystemExit in one
    ends the process."""
    told = program("""
import asyncio, sys
from green_router import Server
async def left():
    try:
        await asyncio.sleep(100)
    finally:
        print("rolled back", flush=True)
tasks = []
async def handler(request):
    tasks.append(asyncio.create_task(left()))
    await asyncio.sleep(0)
    sys.exit(7)
server = Server(handler)
server.bind("tcp://127.0.0.1:0")
server.start()
import zmq.green
client = zmq.green.Context().socket(zmq.REQ)
client.linger = 0
client.connect(server.endpoints[0])
client.send(b"")
server.serve_forever()
""")
    assert (told.returncode, told.stdout) == (7, "rolled back\n"), told.stderr
    assert "destroyed" not in told.stderr and "never" not in told.stderr


def test_asyncio_is_not_imported_where_nobody_needs_it():
    told = program("import sys, green_router; print('asyncio' in sys.modules)")
    assert told.stdout == "False\n", told.stderr


def test_one_may_stop_the_server(serve):
    async def handler(request):
        server.stop()
        return b"the last one"

    server = serve(handler)
    assert server.ask(b"") == b"the last one"
    eventually(lambda: server._ended.done)
