"""What ends the program, or takes the ROUTER away, reaches somebody: the main greenlet, or whoever
is in serve_forever."""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
import threading

import gevent
import pytest
import zmq
import zmq.green
from gevent.hub import get_hub

from green_router import ContextClosed, Server, StateError
from green_router.testing import DEADLINE, PATIENCE, assert_balanced, eventually, settled

ENDS = [SystemExit(3), KeyboardInterrupt()]


def raising(error):
    def handler(request):
        if request.data == b"end":
            raise error
        return request.data

    return handler


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_it_reaches_the_main_greenlet_and_the_server_goes_on(serve, error):
    """As with gevent's own servers: what becomes of the server is for the program to say."""
    server = serve(raising(error))
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"end"])
    with pytest.raises(type(error)) as caught, gevent.Timeout(DEADLINE):
        gevent.sleep(DEADLINE)
    assert caught.value is error
    assert server.started
    assert server.ask(b"x") == b"x"
    assert settled(server, "failed") == 1


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_one_out_of_on_error_does_too(serve, error):
    def on_error(request, exception):
        raise error

    server = serve(lambda request: 1 / 0, on_error=on_error)
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    with pytest.raises(type(error)), gevent.Timeout(DEADLINE):
        gevent.sleep(DEADLINE)
    eventually(lambda: settled(server, "failed") == 1)
    assert server.started


@pytest.mark.parametrize("error", ENDS, ids=repr)
def test_serve_forever_raises_it(error):
    server = Server(raising(error), linger=0.1)
    server.bind("tcp://127.0.0.1:0")
    server.start()
    context = zmq.green.Context()
    with context.socket(zmq.DEALER) as client:
        client.linger = 0
        client.connect(server.endpoints[0])
        client.send_multipart([b"", b"end"])
        with pytest.raises(type(error)), gevent.Timeout(DEADLINE):
            server.serve_forever()
    context.term()
    assert not server.started
    assert_balanced(server)


def test_in_another_thread_it_reaches_that_thread():
    ended = []

    def serve():
        server.start()
        client.connect(server.endpoints[0])
        client.send_multipart([b"", b"end"])
        try:
            gevent.sleep(DEADLINE)
        except SystemExit as error:
            ended.append(error)
        finally:
            server.stop()
            get_hub().destroy(destroy_loop=True)

    error = SystemExit(3)
    server = Server(raising(error))
    server.bind("tcp://127.0.0.1:0")
    context = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    thread = threading.Thread(target=serve)
    thread.start()
    thread.join(DEADLINE)
    assert ended == [error]
    client.close()
    context.term()


OWN_LOOP = """
import gevent
from green_router import Server

def spin(request):
    while True:
        pass

server = Server(spin)
server.bind("tcp://127.0.0.1:0")
server.start()
print(server.endpoints[0], flush=True)
try:
    while True:
        gevent.sleep(60)
except KeyboardInterrupt:
    print("interrupted,", "serving" if server.started else "stopped", flush=True)
finally:
    server.stop(0)
    print({name: count for name, count in server.stats()["fates"].items() if count})
"""


def test_ctrl_c_while_a_handler_computes_ends_a_main_loop_of_ones_own():
    process = subprocess.Popen(
        [sys.executable, "-c", OWN_LOOP], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    context = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    try:
        client.connect(process.stdout.readline().strip())
        client.send_multipart([b"", b"x"])
        assert not client.poll(200)  # the handler spins
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=20 * PATIENCE)
    finally:
        process.kill()
        process.communicate()
        client.close()
        context.term()
    assert out == "interrupted, serving\n{'failed': 1}\n"
    assert "KeyboardInterrupt" in err
    assert process.returncode == 0


# -- somebody else closes the ROUTER ---------------------------------------------------------------


def in_a_thread(call):
    thread = threading.Thread(target=call, daemon=True)
    thread.start()
    return thread


CLOSING = {
    "destroyed": lambda server: server.context.destroy(0),
    "terminated by a thread": lambda server: in_a_thread(server.context.term),
    "closed": lambda server: server._router.socket.close(0),
}


@pytest.mark.parametrize("own", [True, False], ids=["own context", "given context"])
@pytest.mark.parametrize("close", CLOSING.values(), ids=CLOSING)
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_a_router_that_somebody_closes(caplog, close, own, busy):
    """It was idle for ever; or it stopped, with one message too many, and an error of zmq's."""
    caplog.set_level(logging.CRITICAL, "green_router.server")
    given = {} if own else {"context": zmq.green.Context()}
    server = Server(
        lambda request: gevent.sleep(60) if request.data == b"wait" else b"x", linger=0.1, **given
    )
    server.bind("tcp://127.0.0.1:0")
    server.start()
    context = zmq.green.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    client.connect(server.endpoints[0])
    client.send_multipart([b"", b"x"])
    assert client.recv_multipart() == [b"", b"x"]
    if busy:
        client.send_multipart([b"", b"wait"])
        eventually(lambda: server.stats()["in_flight"])
    closing = gevent.spawn(close, server)
    with pytest.raises(ContextClosed, match="terminated or destroyed"), gevent.Timeout(DEADLINE):
        server.serve_forever()
    assert not server.started
    assert server.stats()["received"] == 1 + busy
    assert settled(server, "answered") == 1
    assert settled(server, "abandoned") == busy
    assert_balanced(server)
    assert [record.getMessage() for record in caplog.records] == [f"stopping: {ContextClosed()}"]
    server.stop()
    client.close()
    context.term()
    if isinstance(closing.get(timeout=DEADLINE), threading.Thread):
        closing.get().join(DEADLINE)
        assert not closing.get().is_alive()
    if not own:
        given["context"].destroy(0)


# -- nothing to serve, signals left alone ----------------------------------------------------------


def test_nothing_to_serve_is_an_error():
    server = Server(lambda request: b"x")
    with pytest.raises(StateError, match="name an endpoint"):
        server.serve_forever()
    server.bind("tcp://127.0.0.1:0")  # it may still begin
    server.start()
    server.stop()


def test_a_server_may_start_without_an_endpoint_and_bind_later():
    server = Server(lambda request: b"x")
    server.start()
    with pytest.raises(StateError, match="nothing to serve"):
        server.serve_forever()
    server.bind("tcp://127.0.0.1:0")
    gevent.spawn(server.stop)
    server.serve_forever()


@pytest.mark.parametrize("handle_signals", [True, False])
def test_signals_may_be_left_to_the_program(handle_signals):
    def mine(number, frame):
        seen.append(number)

    seen = []
    before = signal.signal(signal.SIGTERM, mine)
    try:
        server = Server(lambda request: b"x")

        def look():
            seen.append(signal.getsignal(signal.SIGTERM) is mine)
            server.stop()

        gevent.spawn(look)
        server.serve_forever("tcp://127.0.0.1:0", handle_signals=handle_signals)
        assert seen == [not handle_signals]
        assert signal.getsignal(signal.SIGTERM) is mine
    finally:
        signal.signal(signal.SIGTERM, before)


def test_gevents_own_way_to_handle_a_signal_drains():
    """As the documentation says for ``handle_signals=False``."""
    server = Server(lambda request: b"x")
    handler = gevent.signal_handler(signal.SIGUSR1, server.stop)
    try:
        gevent.spawn(signal.raise_signal, signal.SIGUSR1)
        with gevent.Timeout(DEADLINE):
            server.serve_forever("tcp://127.0.0.1:0", handle_signals=False)
    finally:
        handler.cancel()
        signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@pytest.mark.parametrize("ignored", [signal.SIGINT, signal.SIGTERM])
def test_what_is_ignored_stays_ignored(ignored):
    before = signal.signal(ignored, signal.SIG_IGN)
    try:
        server, seen = Server(lambda request: b"x"), []

        def look():
            seen.extend(signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM))
            signal.raise_signal(ignored)
            gevent.sleep(0.01)
            seen.append(server.started)
            server.stop()

        gevent.spawn(look)
        server.serve_forever("tcp://127.0.0.1:0")
        assert [handler is signal.SIG_IGN for handler in seen[:2]] == [
            ignored == signal.SIGINT,
            ignored == signal.SIGTERM,
        ]
        assert seen[2]
    finally:
        signal.signal(ignored, before)
