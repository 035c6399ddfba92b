"""How much is done for a request, counted: the regression test of the hot path. Nothing here is timed.

A burst of requests lies in the socket before the owner is woken, so that what is counted is the same in every run.
"""
from __future__ import annotations

import collections
import os
import shutil
import subprocess
import sys

import gevent
import greenlet
import pytest
import zmq

from green_router.serving import handlers
from green_router.testing import DEADLINE, PATIENCE, eventually, settled

BURST = 50


@pytest.fixture
def burst(serve, monkeypatch):
    """``burst(handler, **settings)``: serves one burst and returns (Python calls, C calls, switches), each a Counter."""
    monkeypatch.setattr(handlers, "SLICE", 60.0)        # a slow machine would cut the burst into more turns

    def run(handler, **settings):
        server = serve(handler, "inproc://work", **settings)
        client = server.client(zmq.DEALER, sndhwm=0, rcvhwm=0)

        def ask_all():
            for number in range(BURST):
                client.send(b"", zmq.SNDMORE | zmq.NOBLOCK)
                client.send(b"%d" % number, zmq.NOBLOCK)

        ask_all()                                       # the first burst makes greenlets and fills caches
        eventually(lambda: settled(server) == BURST)
        ask_all()
        python, compiled, switches = collections.Counter(), collections.Counter(), collections.Counter()
        done = gevent.event.Event()
        server._owner.drain(done.set)                   # fires at the end of the burst, from the owner
        server._owner.taking = True
        main = greenlet.getcurrent()

        def profile(frame, event, what):
            if greenlet.getcurrent() is main:
                return
            if event == "call" and ("green_router" in frame.f_code.co_filename or frame.f_code.co_filename == __file__):
                python[frame.f_code.co_name] += 1
            elif event == "c_call":
                compiled[getattr(what, "__name__", "?")] += 1

        def trace(event, who):
            switches[event] += 1

        greenlet.settrace(trace)
        sys.setprofile(profile)
        try:
            assert done.wait(DEADLINE)
        finally:
            sys.setprofile(None)
            greenlet.settrace(None)
        assert settled(server, "answered") == 2 * BURST
        return python, compiled, switches

    return run


def per_request(counter):
    """What was called at least once for each request: {name: times per request}."""
    return {name: count // BURST for name, count in counter.items() if count >= BURST}


def echo(request):
    return request.data


LIMITS = {"max_in_flight_bytes": 2**30, "max_in_flight_per_peer": 1000, "max_in_flight_bytes_per_peer": 2**30,
          "handler_timeout": 60.0, "park_timeout": 60.0}


def test_python_functions_called_for_a_request(burst):
    python, _, _ = burst(echo)
    assert per_request(python) == {"__init__": 1, "echo": 1, "<lambda>": 1}     # Request, the handler, the envelope policy
    assert sum(python.values()) <= 3 * BURST + 60, python


def test_python_functions_called_for_a_request_with_every_limit(burst):
    python, _, _ = burst(echo, **LIMITS)
    assert per_request(python) == {"__init__": 1, "echo": 1, "<lambda>": 1, "admit": 1, "release": 1}
    assert sum(python.values()) <= 5 * BURST + 80, python


def test_a_burst_of_quick_handlers_costs_the_same_few_switches_whatever_its_size(burst):
    _, _, switches = burst(echo)
    assert sum(switches.values()) <= 16, switches


def test_a_handler_that_blocks_costs_its_switches_and_nothing_for_the_others(burst):
    """Away to the hub, back when its time has come, away when it is idle, and once for its start."""
    _, _, switches = burst(lambda request: gevent.sleep(0) or request.data)
    assert sum(switches.values()) <= 4 * BURST + 10, switches


def test_the_clock_is_read_once_for_a_request(burst):
    """Once to see whether a handler has had its slice; the other readings are for a turn."""
    _, compiled, _ = burst(echo)
    assert compiled["monotonic"] <= BURST + 10, compiled


PROGRAM = """
from green_router import Server
server = Server(lambda request: request.data, grace=0)
server.bind("tcp://127.0.0.1:0")
server.start()
print(server.endpoints[0], flush=True)
server.serve_forever()
"""

REQUESTS = 300


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to count system calls")
def test_system_calls_for_one_request_at_a_time(tmp_path):
    """The dearest case: each request wakes the server. Counted in all of its threads."""
    server = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    context = zmq.Context()
    client = context.socket(zmq.REQ)
    client.linger = 0
    tracer = None
    try:
        client.connect(server.stdout.readline().decode().strip())

        def ask(count):
            for _ in range(count):
                client.send(b"x")
                assert client.poll(1000 * DEADLINE)
                client.recv()

        ask(20)
        log = tmp_path / "calls"
        tracer = subprocess.Popen(["strace", "-f", "-c", "-o", str(log), "-p", str(server.pid)], stderr=subprocess.PIPE,
                                  text=True)
        attached = tracer.stderr.readline()
        if "attached" not in attached:
            pytest.skip(f"strace may not attach here: {attached.strip()}")
        ask(REQUESTS)
        tracer.send_signal(2)
        tracer.wait(20 * PATIENCE)
        calls = {fields[-1]: int(fields[3]) for fields in map(str.split, log.read_text().splitlines())
                 if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total"}
    finally:
        client.close()
        context.term()
        if tracer is not None:
            tracer.stderr.close()
        server.kill()
        server.communicate()
    made = sum(count for name, count in calls.items() if name != "getpid")      # libzmq asks for its pid at each signal
    assert made <= 19 * REQUESTS, {name: round(count / REQUESTS, 2) for name, count in calls.items()}
    assert calls.get("futex", 0) <= REQUESTS
    assert os.path.exists(log)
