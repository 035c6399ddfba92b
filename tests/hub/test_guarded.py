"""Every callback and greenlet of the package has an end that somebody is told of: an error in one
is never silence.

Reality does not let a callback fail when a test wants it to, so the faults are planted; want of
memory for real is in tests/processes/test_no_memory.py.
"""

from __future__ import annotations

import logging
import threading

import gevent
import pytest
import zmq
from greenlet import GreenletExit

from green_router import Server
from green_router.hub.guarded import guarded
from green_router.testing import DEADLINE, assert_balanced, eventually


def broken(*arguments):
    raise MemoryError("planted")


def once(call):
    """It fails once, and is there again: it is needed to end."""
    calls = []

    def failing(*arguments):
        if not calls:
            calls.append(arguments)
            raise MemoryError("planted")
        return call(*arguments)

    return failing


FAULTS = {
    "handlers cannot be started": lambda server, plant: plant(server._handlers, "_start", broken),
    "what a handler did cannot be judged": lambda server, plant: (
        plant(server._results, "finish", broken),
        plant(server._failures, "fail", broken),
    ),
    "deadlines cannot be kept": lambda server, plant: plant(
        server._handlers._deadlines, "_overdue", broken
    ),
    "the owner cannot be woken": lambda server, plant: plant(
        server._mailbox, "put", once(server._mailbox.put)
    ),
    "the owner cannot take": lambda server, plant: plant(server._owner, "_take", broken),
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
def test_a_fault_of_ours_stops_the_server_with_the_error(fault, caplog, monkeypatch):
    def handle(request):
        if request.data == b"waits":
            gevent.sleep(60)
        return [request.data, b"not plain"]

    server = Server(handle, handler_timeout=0.2)
    serving = gevent.spawn(server.serve_forever, "tcp://127.0.0.1:0")
    eventually(lambda: server.started)
    context = zmq.green.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    client.connect(server.endpoints[0])
    client.send_multipart([b"", b"waits"])
    eventually(lambda: server.stats()["in_flight"] == 1)

    def plant(target, name, value):
        try:
            setattr(target, name, value)
        except AttributeError:  # a slot of a class
            monkeypatch.setattr(type(target), name, value)

    with caplog.at_level(logging.CRITICAL):
        fault(server, plant)
        client.send_multipart([b"", b"asks"])
        with pytest.raises(MemoryError, match="planted"):
            serving.get(timeout=DEADLINE)
    assert not server.started
    assert "an error outside handlers" in caplog.text
    assert_balanced(server)
    client.close()
    context.term()


def test_an_end_that_fails_ends_all_the_same(caplog):
    server = Server(lambda request: b"")
    server.bind("tcp://127.0.0.1:0")
    server.start()
    server._handlers.abandon = broken
    with caplog.at_level(logging.ERROR), gevent.Timeout(DEADLINE):
        server.stop()
    assert "an error while the server stopped" in caplog.text
    again = Server(lambda request: b"")
    again.bind(*server.endpoints)  # nothing of it is left
    again.start()
    again.stop()


def test_guarded_tells_of_errors_and_lets_ends_pass():
    told = []
    guarded(broken, told.append)(1, 2)
    assert [type(error) for error in told] == [MemoryError]

    def leave():
        raise GreenletExit

    with pytest.raises(GreenletExit):
        guarded(leave, told.append)()
    assert len(told) == 1
    assert guarded(threading.get_ident, told.append)() is None
