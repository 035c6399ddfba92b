"""Stopping from another thread, at any time, whatever the serving thread does: it returns, and all
is closed."""

from __future__ import annotations

import logging
import threading

import gevent
import gevent.event
import pytest
import zmq
from gevent.hub import get_hub

from green_router import BindError, Server, StateError
from green_router.serving.parts import Parts, real_router
from green_router.testing import DEADLINE, assert_balanced, eventually, settled


class Serving:
    """A server in a thread of its own, and how its ``serve_forever`` ended."""

    def __init__(self, handler, then=lambda: None, **settings):
        self.server = Server(handler, **settings)
        self.server.bind("tcp://127.0.0.1:0")
        self.ended = None
        self.thread = threading.Thread(target=self._run, args=[then])
        self.thread.start()

    def _run(self, then):
        try:
            self.server.serve_forever()
            self.ended = "returned"
        except BaseException as error:
            self.ended = error
        then()


def stop_in_a_thread(server, *arguments):
    """As a thread that has no hub does; returns the thread."""
    thread = threading.Thread(target=server.stop, args=arguments)
    thread.start()
    return thread


def has_ended(thread):
    thread.join(DEADLINE)
    return not thread.is_alive()


def destroy_hub():
    get_hub().destroy(destroy_loop=True)


AFTERWARDS = [lambda: None, destroy_hub]


@pytest.mark.parametrize("then", AFTERWARDS, ids=["thread ends", "hub is destroyed"])
@pytest.mark.parametrize("times", [1, 5])
def test_it_returns_from_any_thread(then, times):
    serving = Serving(lambda request: request.data, then)
    eventually(lambda: serving.server.started)
    stoppers = [stop_in_a_thread(serving.server) for _ in range(times)]
    with gevent.Timeout(DEADLINE):
        serving.server.stop()  # and from a greenlet of this thread's hub
    assert all(map(has_ended, [*stoppers, serving.thread]))
    assert serving.ended == "returned"
    assert not serving.server.started
    serving.server.stop()


def test_what_was_taken_is_answered():
    gate = threading.Event()
    serving = Serving(
        lambda request: get_hub().threadpool.apply(gate.wait) and request.data, destroy_hub
    )
    context = zmq.Context()
    with context.socket(zmq.REQ) as client:
        client.linger = 0
        eventually(lambda: serving.server.started)
        client.connect(serving.server.endpoints[0])
        client.send(b"x")
        eventually(lambda: serving.server.stats()["in_flight"])
        stopper = stop_in_a_thread(serving.server)
        eventually(lambda: not serving.server.started)
        gate.set()
        assert client.poll(1000 * DEADLINE)
        assert client.recv() == b"x"
    context.term()
    assert has_ended(stopper)
    assert has_ended(serving.thread)
    assert settled(serving.server, "answered") == 1
    assert_balanced(serving.server)


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), None], ids=repr)
def test_it_returns_where_serving_breaks(error):
    """A handler asks the thread to end, or the loop breaks."""

    def handler(request):
        raise error

    serving = Serving(handler, destroy_hub)
    eventually(lambda: serving.server.started)
    if error is None:
        serving.server._mailbox.put_threadsafe(lambda: 1 / 0)
    else:
        context = zmq.Context()
        client = context.socket(zmq.DEALER)
        client.linger = 0
        client.connect(serving.server.endpoints[0])
        client.send_multipart([b"", b"x"])
    stopper = stop_in_a_thread(serving.server) if error is None else serving.thread
    assert has_ended(stopper)
    serving.server.stop()
    assert has_ended(serving.thread)
    if error is not None:
        assert serving.ended is error
        client.close()
        context.term()


def test_it_returns_before_starting_is_done():
    """Whichever comes first: the server never serves, or it stops at once."""
    for _ in range(20):
        serving = Serving(lambda request: b"x", destroy_hub)
        serving.server.stop()
        assert has_ended(serving.thread)
        assert serving.ended == "returned" or isinstance(serving.ended, StateError)
        assert not serving.server.started
        assert "stopped" in repr(serving.server)


def slow(reached, go_on):
    """The parts of a server that holds its start up, between the claim to it and the first
    socket."""

    def router(*wanted):
        reached()
        go_on()
        return real_router(*wanted)

    return Parts(router=router)


@pytest.mark.parametrize("fails", [False, True], ids=["starts", "fails"])
def test_it_waits_for_a_start_that_is_on_its_way(fails):
    reached, go_on, raised = threading.Event(), threading.Event(), []
    server = Server(lambda request: b"x", slow(reached.set, go_on.wait))
    server.bind("tcp://127.0.0.1:0" if not fails else "tcp://203.0.113.77:0")

    def serve():
        try:
            server.serve_forever()
        except BindError as error:
            raised.append(error)
        destroy_hub()

    thread = threading.Thread(target=serve)
    thread.start()
    reached.wait(DEADLINE)
    stopper = stop_in_a_thread(server)
    eventually(lambda: server._stop_wanted)
    with pytest.raises(StateError, match="starting"):
        server.bind("tcp://127.0.0.1:0")
    with pytest.raises(StateError, match="starting"):
        server.start()
    assert stopper.is_alive()
    go_on.set()
    assert has_ended(stopper)
    assert has_ended(thread)
    assert len(raised) == fails
    assert "stopped" in repr(server)


def test_a_signal_handler_may_stop_a_server_that_starts():
    """It interrupts ``start``, in the same greenlet: to wait for its end would be to wait for
    itself."""
    server = Server(lambda request: b"x", slow(lambda: server.stop(), lambda: None))
    server.bind("tcp://127.0.0.1:0")
    server.start()
    assert not server.started
    eventually(lambda: "stopped" in repr(server))


@pytest.mark.parametrize("then", AFTERWARDS, ids=["thread ends", "hub is destroyed"])
def test_a_thread_that_ends_without_stop_takes_its_server_along(then, caplog, open_files):
    before = open_files()
    server = Server(lambda request: gevent.sleep(600), linger=0.1)
    server.bind("tcp://127.0.0.1:0")
    context = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0

    def serve():
        server.start()
        client.connect(server.endpoints[0])
        client.send_multipart([b"", b"x"])
        eventually(lambda: server.stats()["in_flight"])
        then()

    caplog.set_level(logging.ERROR, "green_router.server")
    thread = threading.Thread(target=serve)
    thread.start()
    assert has_ended(thread)
    with gevent.Timeout(DEADLINE):
        server.stop()
    assert settled(server, "abandoned") == 1
    assert_balanced(server)
    eventually(
        lambda: "the thread that served has ended without stop; abandoned 1 requests" in caplog.text
    )
    again = Server(lambda request: b"x")
    again.bind(server.endpoints[0])  # its port is free
    again.start()
    again.stop()
    client.close()
    context.term()
    if then is destroy_hub:
        eventually(lambda: open_files() <= before)


def test_a_hub_that_was_destroyed_in_a_thread_that_lives():
    server, go_on = Server(lambda request: b"x", linger=0.1), threading.Event()
    server.bind("tcp://127.0.0.1:0")
    destroyed = threading.Event()

    def serve():
        server.start()
        gevent.sleep(0)
        destroy_hub()
        destroyed.set()
        go_on.wait(DEADLINE)

    thread = threading.Thread(target=serve)
    thread.start()
    destroyed.wait(DEADLINE)
    with gevent.Timeout(DEADLINE):
        server.stop()
    assert "stopped" in repr(server)
    go_on.set()
    assert has_ended(thread)


def test_stop_is_harmless_in_every_state():
    refused = Server(lambda request: b"x")
    refused.bind("tcp://203.0.113.77:0")
    try:
        with pytest.raises(BindError):
            refused.start()
    finally:
        refused.stop()  # raised AttributeError, and hid the other
    broken = Server(lambda request: b"x", slow(lambda: 1 / 0, lambda: None))
    with pytest.raises(ZeroDivisionError):
        broken.start()
    new = Server(lambda request: b"x")
    for server in (refused, broken, new):
        server.stop()
        server.stop(0)
        assert "stopped" in repr(server)
        with pytest.raises(StateError, match="make a new one"):
            server.start()
