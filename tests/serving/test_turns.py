"""Callbacks are not turns: once a slice of time is used up, what follows comes after the loop has
polled."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import gevent
import pytest
import zmq

from green_router.serving import turns
from green_router.testing import DEADLINE, eventually, settled

WORK = 0.003
"""Seconds that a handler computes here: more than a slice."""


class Polls:
    """Counts the polls of this thread's loop, by a watcher that is called after each."""

    def __init__(self):
        self.count = 0
        self._watcher = gevent.get_hub().loop.check(ref=False)
        self._watcher.start(self._polled)

    def _polled(self):
        self.count += 1

    def close(self):
        self._watcher.stop()
        self._watcher.close()


@pytest.fixture
def polls():
    counter = Polls()
    yield counter
    counter.close()


def compute(seconds=WORK):
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def ask_all(server, count):
    client = server.client(zmq.DEALER)
    for number in range(count):
        client.send_multipart([b"", b"%d" % number])
    return client


def test_the_loop_polls_between_handlers_that_compute(serve, polls):
    seen = []

    def handle(request):
        seen.append(polls.count)
        compute()
        return request.data

    server = serve(handle)
    ask_all(server, 30)
    eventually(lambda: settled(server, "answered") == 30)
    assert len(set(seen)) == 30, "a turn for each"


def test_a_timer_is_not_late_by_all_that_waits(serve):
    """A greenlet that sleeps beside forty handlers goes on after the one that runs when its time
    has come."""
    begun = []

    def handle(request):
        begun.append(request)
        compute(0.01)
        return b""

    server = serve(handle)
    ask_all(server, 40)
    eventually(lambda: len(begun) == 1)
    before = len(begun)
    gevent.sleep(0.001)
    assert len(begun) - before <= 2
    eventually(lambda: settled(server, "answered") == 40)


def test_a_deadline_is_kept_between_handlers_that_compute(serve):
    """What is overdue is answered before the next handler begins, not behind twenty of them."""
    order = []

    def handle(request):
        if request.data == b"0":
            gevent.sleep(60)
        order.append(request.data)
        compute(0.02)
        return request.data

    server = serve(
        handle, handler_timeout=0.2, on_error=lambda request, error: b"late " + request.data
    )
    client = ask_all(server, 9)
    replies = [client.recv_multipart()[1] for _ in range(9)]
    assert b"late 0" in replies
    stats = server.stats()["fates"]
    assert stats["timed_out"] + stats["answered"] == 9


def test_short_handlers_share_a_slice(serve, polls):
    """Nothing is put off that is over soon: a burst of quick requests takes few turns."""
    server = serve(lambda request: request.data)
    client = ask_all(server, 64)
    for _ in range(64):
        client.recv_multipart()
    before = polls.count
    for number in range(64):
        client.send_multipart([b"", b"%d" % number])
    for _ in range(64):
        client.recv_multipart()
    assert polls.count - before < 64


def test_refusals_leave_room_for_the_loop(serve, polls):
    """Malformed and refused messages call no handler; a flood of them still lets the loop poll."""
    server = serve(lambda request: b"", max_frames=4)
    client = server.client(zmq.DEALER, sndhwm=0)
    before = polls.count
    for _ in range(5000):
        client.send(b"no delimiter")
    eventually(lambda: settled(server, "malformed") == 5000)
    assert polls.count - before >= 2


@pytest.mark.parametrize("loop", ["libev-cext", "libuv-cffi"])
def test_on_either_loop(loop):
    """The same in a program with libuv, which does not count its turns."""
    program = (
        "import gevent, time, zmq\n"
        "from green_router.serving import turns\n"
        "from green_router.testing import running_server, eventually, settled\n"
        "polls = [0]\n"
        "def polled(): polls[0] += 1\n"
        "watcher = gevent.get_hub().loop.check(ref=False)\n"
        "watcher.start(polled)\n"
        "seen = []\n"
        "def handle(request):\n"
        "    seen.append(polls[0])\n"
        "    end = time.perf_counter() + 0.003\n"
        "    while time.perf_counter() < end: pass\n"
        "    return b''\n"
        "with running_server(handle) as server:\n"
        "    client = server.client(zmq.DEALER)\n"
        "    for _ in range(20): client.send_multipart([b'', b''])\n"
        "    eventually(lambda: settled(server, 'answered') == 20)\n"
        "watcher.stop(); watcher.close()\n"
        "print(type(gevent.get_hub().loop).__module__.split('.')[1], len(set(seen)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE,
        check=False,
        env={**os.environ, "GEVENT_LOOP": loop},
    )
    assert done.stdout == f"{loop[:5]} 20\n", done.stderr


def test_within_a_slice_nothing_is_put_off():
    """And behind it, only until the loop has polled."""
    order = []
    mine = turns.Turns()

    def first():
        mine.begin()
        mine.soon(lambda: order.append("at once"))
        compute(2 * turns.SLICE)
        mine.soon(lambda: order.append("after the turn"))
        gevent.get_hub().loop.run_callback(order.append, "callback")

    gevent.get_hub().loop.run_callback(first)
    eventually(lambda: len(order) == 3)
    mine.close()
    assert order == ["at once", "callback", "after the turn"]
