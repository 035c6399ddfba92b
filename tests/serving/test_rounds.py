"""Requests that until_ready asks about for long: in rounds, all together, and each for itself."""
from __future__ import annotations

import threading
from collections import Counter
from time import monotonic

import gevent
import pytest
from gevent.event import AsyncResult, Event
from gevent.hub import get_hub

from green_router import until_ready
from green_router.serving.adapters import BATCH, LONGEST_PAUSE
from green_router.testing import DEADLINE, PATIENCE, eventually, running

IN_ROUNDS = 20
"""Questions after which a request's pauses have become the longest."""


class Asked:
    """A handler in the original convention: ready when told so; it knows how often it was asked, by data."""

    def __init__(self):
        self.times = Counter()
        self.ready = set()
        self._watched = {}

    def __call__(self, request):
        client_id, data = request
        self.times[data] += 1
        if self.times[data] == self._watched.get(data, (0, None))[0]:
            self._watched[data][1].set()
        return (client_id, data.upper()) if data in self.ready else None

    def wait(self, data, more):
        """**Blocks** until it has been asked about this data that many times more."""
        event = Event()
        self._watched[data] = self.times[data] + more, event
        assert event.wait(DEADLINE)


@pytest.fixture
def turns():
    """How often the loop has turned since the last call."""
    seen = [0]

    def count():
        seen[0] += 1

    def since():
        turned, seen[0] = seen[0], 0
        return turned

    watcher = get_hub().loop.check()
    watcher.start(count)
    yield since
    watcher.stop()
    watcher.close()


def ask(server, data):
    client = server.client()
    client.send(data)
    return client


@pytest.mark.parametrize("requests", [1, 20, 3 * BATCH + 1])
def test_a_round_is_one_wake_up_for_all(serve, turns, requests):
    handler = Asked()
    server = serve(until_ready(handler))
    names = [b"r%d" % number for number in range(requests)]
    clients = []
    for name in names:
        clients.append(ask(server, name))
        gevent.sleep(0.0005)
    handler.wait(names[-1], IN_ROUNDS)
    turns()
    before = Counter(handler.times)
    handler.wait(names[0], 4)
    gevent.sleep(0)                             # the rest of this round
    assert turns() <= 4 * (2 + requests // BATCH) + 2
    assert {handler.times[name] - before[name] for name in names} <= {3, 4, 5}
    handler.ready.update(names)
    assert [client.recv() for client in clients] == [name.upper() for name in names]


def test_the_last_round_ends_the_rounds(serve, turns):
    handler = Asked()
    server = serve(until_ready(handler))
    client = ask(server, b"slow")
    handler.wait(b"slow", IN_ROUNDS)
    handler.ready.add(b"slow")
    assert client.recv() == b"SLOW"
    gevent.sleep(2 * LONGEST_PAUSE)
    turns()
    gevent.sleep(5 * LONGEST_PAUSE)
    assert turns() <= 2                         # this sleep's own


def test_one_that_times_out_leaves_the_others_alone(serve):
    handler = Asked()
    server = serve(until_ready(handler), handler_timeout=PATIENCE, on_error=lambda _, error: error.code.encode())
    never, soon = ask(server, b"never"), ask(server, b"soon")
    handler.wait(b"soon", IN_ROUNDS)
    handler.ready.add(b"soon")
    assert soon.recv() == b"SOON"
    assert never.recv() == b"timed_out"
    asked = handler.times[b"never"]
    late = ask(server, b"late")
    handler.wait(b"late", IN_ROUNDS)
    handler.ready.add(b"late")
    assert late.recv() == b"LATE"
    assert handler.times[b"never"] == asked


def test_a_handler_that_blocks_when_asked_delays_no_other(serve):
    go_on = AsyncResult()
    times = Counter()

    def handle_request(request):
        times[request.data] += 1
        if request.data == b"blocks" and times[b"blocks"] == IN_ROUNDS:
            return go_on.get()
        return request.data.upper() if times[request.data] == IN_ROUNDS + 3 else None

    server = serve(until_ready(handle_request))
    blocks, other = ask(server, b"blocks"), ask(server, b"other")
    assert other.recv() == b"OTHER"
    eventually(lambda: times[b"blocks"] == IN_ROUNDS)
    go_on.set(b"at last")
    assert blocks.recv() == b"at last"


def test_every_thread_has_rounds_of_its_own():
    started = {}

    def handle_request(request):
        since = started.setdefault(request.data, monotonic())
        return request.data.upper() if monotonic() - since > 4 * LONGEST_PAUSE else None

    handler = until_ready(handle_request)
    replies = {}

    def serve_one(name):
        with running(handler) as server:
            replies[name] = server.ask(name)
        get_hub().destroy(destroy_loop=True)

    threads = [threading.Thread(target=serve_one, args=[b"t%d" % number]) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10 * PATIENCE)
    assert replies == {b"t0": b"T0", b"t1": b"T1", b"t2": b"T2"}
