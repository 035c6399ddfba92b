"""What until_ready makes of a handler, in a server and where something else calls it."""

from __future__ import annotations

import os
import threading

import gevent
import pytest
import zmq
from gevent.hub import get_hub

from green_router import until_ready
from green_router.testing import PATIENCE, eventually, running_server


def in_thread(*calls):
    """Make these calls in an OS thread, and wait for its end."""
    thread = threading.Thread(target=lambda: [call() for call in calls])
    thread.start()
    thread.join(10 * PATIENCE)
    assert not thread.is_alive()


def test_it_may_be_called_at_any_time():
    handler = until_ready(lambda request: None)
    handler.ready()
    in_thread(handler.ready)
    with running_server(handler) as server:
        server.client().send(b"never")
        eventually(lambda: server.stats()["in_flight"])
        handler.ready()
    handler.ready()
    in_thread(handler.ready)


def test_every_server_of_a_handler_is_told():
    done, waiting = [], threading.Semaphore(0)

    @until_ready
    def handle_request(request):
        if not done:
            waiting.release()
        return request.data.upper() if done else None

    replies = {}

    def serve_one(name):
        with running_server(handle_request) as server:
            replies[name] = server.ask(name)
        get_hub().destroy(destroy_loop=True)
        handle_request.ready()

    handle_request.ready()
    threads = [threading.Thread(target=serve_one, args=[b"t%d" % number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in threads:
        assert waiting.acquire(timeout=10 * PATIENCE)
    done.append(True)
    handle_request.ready()
    for thread in threads:
        thread.join(10 * PATIENCE)
    assert replies == {b"t0": b"T0", b"t1": b"T1", b"t2": b"T2"}


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_child_tells_nobody_of_its_parent(serve):
    asked, done = [], []
    handler = until_ready(
        lambda request: asked.append(request) or (request.data.upper() if done else None)
    )
    server = serve(handler, "tcp://127.0.0.1:0")
    # Not one of zmq.green: in the child, its watcher would ask the socket for ever (libzmq says
    # EINTR there, and pyzmq tries that again).
    context = zmq.Context()
    client = context.socket(zmq.REQ)
    client.connect(server.endpoints[0])
    client.send(b"a")
    eventually(lambda: server.stats()["in_flight"])
    before = len(asked)
    child = os.fork()
    if child == 0:
        handler.ready()
        gevent.sleep(0.01)
        os._exit(len(asked) - before)
    assert os.waitpid(child, 0)[1] == 0
    done.append(True)
    handler.ready()
    eventually(lambda: client.poll(0))
    assert client.recv() == b"A"
    context.destroy(0)


def test_twice_is_once():
    handler = until_ready(len)
    assert until_ready(handler) is handler


@pytest.mark.parametrize("told", [False, True])
def test_who_calls_it_gets_the_reply(told):
    """A decorator above it, say: the greenlet that calls waits."""
    done, seen = [], []
    handler = until_ready(lambda request: request.data.upper() if done else None)

    def decorated(request):
        seen.append(handler(request))
        return seen[-1] + b"!"

    with running_server(decorated) as server:
        client = server.client()
        client.send(b"a")
        eventually(lambda: server.stats()["in_flight"])
        done.append(True)
        if told:
            handler.ready()
        assert client.recv() == b"A!"
        assert seen == [b"A"]


def test_who_calls_it_may_give_up():
    asked = []
    handler = until_ready(lambda request: asked.append(1))

    def decorated(request):
        with gevent.Timeout(0.05, False):
            handler(request)
        return b"gave up"

    with running_server(decorated) as server:
        assert server.ask(b"a") == b"gave up"
        before = len(asked)
        assert before > 5
        assert server.ask(b"b") == b"gave up"
        assert server.stats()["in_flight"] == 0


def test_gevents_locals_end_with_each_question():
    from gevent.local import local

    kept, done = local(), []

    def handle_request(request):
        before = getattr(kept, "data", None)
        kept.data = request.data
        return b"%r" % before if done else None

    with running_server(until_ready(handle_request)) as server:
        clients = [server.client() for _ in range(5)]
        for number, client in enumerate(clients):
            client.send(b"c%d" % number)
        eventually(lambda: server.stats()["in_flight"] == 5)
        done.append(True)
        assert [client.recv() for client in clients] == [b"None"] * 5
