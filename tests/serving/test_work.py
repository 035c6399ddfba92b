"""How much is done for a request, counted: the regression test of the hot path. Nothing here is
timed.

A burst of requests lies in the socket before the owner is woken, so that what is counted is the
same in every run: the numbers are exact, and two bursts of different size tell what a request costs
and what a turn does. Where a number goes down, write the smaller one here; where it goes up, the
reason.
"""

from __future__ import annotations

import collections
import contextlib
import gc
import operator
import platform
import shutil
import signal
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import gevent
import greenlet
import pytest
import zmq

import green_router
from green_router.messages import fields
from green_router.serving import handlers, turns
from green_router.sockets import frames_pure
from green_router.testing import DEADLINE, PATIENCE, eventually, settled

SMALL, LARGE = 10, 50
"""Requests in a burst; both fit into one turn."""


class Work:
    """What was done in the serving greenlets: how often Python functions were called, compiled
    ones, and switches made.

    Attributes:
        python: name -> calls, of functions of this package, of pyzmq and gevent, and of the
            handler.
        compiled: name -> calls that Python code made of compiled functions.
        socket: name -> calls of the ROUTER.
        callbacks: how many callbacks the hub ran.
        switches: between greenlets.
    """

    def __init__(self):
        self.python, self.compiled, self.socket = (
            collections.Counter(),
            collections.Counter(),
            collections.Counter(),
        )
        self.callbacks = self.switches = 0

    def counting(self, name, call):
        def counted(*arguments):
            self.socket[name] += 1
            return call(*arguments)

        return counted

    def __sub__(self, other):
        """What the larger burst cost more, for each of its requests: whole numbers, or a
        Fraction."""
        spread = LARGE - SMALL
        each = Work()
        for kind in ("python", "compiled", "socket"):
            mine, theirs = getattr(self, kind), getattr(other, kind)
            setattr(
                each,
                kind,
                {
                    name: Fraction(mine[name] - theirs[name], spread)
                    for name in mine
                    if mine[name] != theirs[name]
                },
            )
        each.callbacks = Fraction(self.callbacks - other.callbacks, spread)
        each.switches = Fraction(self.switches - other.switches, spread)
        return each


OURS = [str(Path(green_router.__file__).parent), str(Path(gevent.__file__).parent), __file__]
if zmq.pyzmq_version_info() >= (26,):  # before, its compiled receive asks RCVMORE by way of Python
    OURS.append(str(Path(zmq.__file__).parent))


def looks(frame):
    """Whether this is part of a look at who has come or gone: there is one when the clock says so,
    whatever is asked."""
    while frame is not None:
        if frame.f_code.co_name in ("look", "look_again"):
            return True
        frame = frame.f_back
    return False


@pytest.fixture
def burst(serve, monkeypatch):
    """``burst(handler, count, **settings)``: serves one burst of so many requests and returns its
    Work.

    With ``fired`` the owner is woken as by its descriptor.
    """
    monkeypatch.setattr(turns, "SLICE", 60.0)  # a slow machine would cut the burst into more turns
    # What counts calls holds what the frames have, the greenlet too.
    monkeypatch.setattr(handlers, "references", bool)
    monkeypatch.setattr(handlers, "left_nothing", operator.is_not)

    def run(handler, count, frames=(b"", b"x"), fired=False, **settings):
        server = serve(handler, f"inproc://work-{count}", **settings)
        client = server.client(zmq.DEALER, sndhwm=0, rcvhwm=0)

        def ask_all():
            for _ in range(count):
                for frame in frames[:-1]:
                    client.send(frame, zmq.SNDMORE | zmq.NOBLOCK)
                client.send(frames[-1], zmq.NOBLOCK)

        ask_all()  # the first burst makes greenlets and fills caches
        eventually(lambda: settled(server) == count)
        ask_all()
        work, done = Work(), gevent.event.Event()
        main, hub, owner = greenlet.getcurrent(), gevent.get_hub(), server._owner
        if fired:
            owner._drained = done.set
            hub.loop.run_callback(owner._fired)
        else:
            owner.drain(done.set)  # fires at the end of the burst, from the owner
            owner.taking = True
        for name in ("receive", "send", "readable"):
            attribute = {"send": "_transmit"}.get(name, "_" + name)
            setattr(owner, attribute, work.counting(name, getattr(owner, attribute)))

        def profile(frame, event, what):
            if greenlet.getcurrent() is main:
                return
            # Neither the counting, nor debug mode, nor the client, whose green socket watches its
            # descriptor, is its work; and what a call of the ROUTER does, is counted where it is
            # made (tests/sockets/test_frames.py). A Request is compiled, mostly.
            if frame.f_code.co_name in (
                "counted",
                "guarded",
                "__state_changed",
            ) or frame.f_code.co_filename in (frames_pure.__file__, fields.__file__):
                return
            if looks(frame):
                return
            if event == "call" and frame.f_code.co_filename.startswith(tuple(OURS)):
                work.python[frame.f_code.co_name] += 1
            elif event == "c_call":
                work.compiled[getattr(what, "__name__", "?")] += 1

        def trace(event, who):
            work.switches += 1
            work.callbacks += who[0] is hub  # the hub switches to somebody from a callback only

        gc.collect()
        gc.disable()  # what other tests have left is not the server's work
        greenlet.settrace(trace)
        sys.setprofile(profile)
        try:
            assert done.wait(DEADLINE)
        finally:
            sys.setprofile(None)
            greenlet.settrace(None)
            gc.enable()
        assert settled(server, "answered") == 2 * count
        return work

    return run


@pytest.fixture
def cost(burst):
    """``cost(handler, **settings)``: what each request of a burst costs, without what its turn
    does."""
    return lambda handler, **settings: (
        burst(handler, LARGE, **settings) - burst(handler, SMALL, **settings)
    )


def echo(request):
    return request.data


def test_a_quick_handler(cost):
    """Two calls of Python functions: the envelope policy, the handler. No switch, no callback of
    its own."""
    each = cost(echo)
    assert each.python == {"<lambda>": 1, "echo": 1}
    assert each.socket == {"receive": 1, "send": 1}
    if sys.version_info < (3, 12):  # later ones tell the profiler of some of these calls only
        calls = {"append": 2, "len": 1, "index": 1, "id": 1, "popleft": 2, "pop": 1, "monotonic": 1}
        assert {name: each.compiled.get(name) for name in calls} == calls
    assert each.switches == each.callbacks == 0


@pytest.mark.parametrize(
    "shape",
    [
        lambda client, data: [data],
        lambda client, data: [data, data],
        lambda client, data: (client, data),
        lambda client, data: (client, [data]),
    ],
    ids=["list of one", "list", "pair", "pair with a list"],
)
def test_other_plain_results(cost, shape):
    """One call more than bytes, whichever of the loop's shapes it is."""

    def handle(request):
        return shape(request.frames[0], request.data)

    each = cost(handle)
    each.python.pop("<lambda>")
    assert each.python == {"handle": 1, "plain": 1}
    assert each.switches == each.callbacks == 0


def test_every_limit(cost):
    """Counted in and counted out; a deadline costs nothing."""
    each = cost(
        echo,
        max_in_flight_bytes=2**30,
        max_in_flight_per_peer=1000,
        max_in_flight_bytes_per_peer=2**30,
        handler_timeout=60.0,
        park_timeout=60.0,
        overload="refuse",
    )
    assert each.python == {"<lambda>": 1, "echo": 1, "admit": 1, "release": 1}
    assert each.socket == {"receive": 1, "send": 1}
    assert each.compiled.get("monotonic", 0) <= 1
    assert each.switches == each.callbacks == 0


def test_a_handler_that_blocks(cost):
    """It is started, goes to the hub, comes back when its time has come, and goes to the hub when
    it is idle."""
    each = cost(lambda request: gevent.sleep(0) or request.data)
    assert each.switches == 4
    assert round(each.callbacks) == 2  # one more or less where the timers of two meet
    assert each.socket == {"receive": 1, "send": 1}


@pytest.mark.parametrize(
    ("policy", "frames", "calls"),
    [
        ("bare", [b"x"], 2),
        ("marker:m", [b"m", b"x"], 2),
        ("last", [b"", b"x"], 3),
        ("fixed:2", [b"", b"x"], 3),
        ("delimiter", [b"", b"x", b"y", b"z"], 3),
    ],
)
def test_each_envelope(cost, policy, frames, calls):
    """Where a message may have several frames of its sender's choosing, their sum is bounded: one
    call more."""
    each = cost(echo, frames=frames, envelope=policy)
    assert sum(each.python.values()) == calls
    assert each.socket == {"receive": 1, "send": 1}
    assert each.switches == each.callbacks == 0


def test_a_part_of_a_stream(burst):
    """One call that asks whether it is still owed, and one that puts it; the window (64) is not
    reached here."""

    def parts(count):
        return burst(lambda request: (b"part" for _ in range(count)), SMALL)

    five, one = parts(5), parts(1)
    assert {name: five.python[name] - one.python[name] for name in ("<genexpr>", "owes")} == {
        "<genexpr>": 4 * SMALL,
        "owes": 4 * SMALL,
    }
    assert sum(five.python.values()) - sum(one.python.values()) == 12 * SMALL
    assert five.socket["send"] - one.socket["send"] == 4 * SMALL
    assert five.switches == one.switches


def test_a_turn(burst):
    """What does not depend on how many there are: the WAKE and the replies each wake the owner, who
    sends only then, the handlers run once."""
    work = burst(echo, LARGE)
    assert work.switches == 8
    assert work.callbacks == 4
    assert work.socket["readable"] == 2  # after the first request, and at the end
    assert {
        name: work.python[name] for name in ("_send", "of", "_take", "schedule", "relay", "ring")
    } == {"_send": 1, "of": 2, "_take": 2, "schedule": 1, "relay": 1, "ring": 0}


def test_one_request_at_a_time(burst):
    """To the hub, owner, handler, owner, and back, all in the call in which the descriptor has
    fired: no other callback of the hub is made, and the owner waits for mail once, and gives way
    once."""
    work = burst(echo, 1, fired=True)
    assert work.switches == 8
    assert work.callbacks == 4
    assert work.socket == {"receive": 1, "send": 1, "readable": 2}
    calls = {
        "relay": 1,
        "get": 2,
        "give_way": 2,
        "wake": 2,
        "schedule": 1,
        "soon": 0,
        "put_threadsafe": 0,
    }
    assert {name: work.python[name] for name in calls} == calls


PROGRAM = """
from green_router import Server
server = Server(lambda request: request.data, grace=0)
server.bind("tcp://127.0.0.1:0")
server.start()
print(server.endpoints[0], flush=True)
server.serve_forever()
"""

REQUESTS = 300


@contextlib.contextmanager
def apart(kind):
    """That program as a process, and a client of it."""
    server = subprocess.Popen([sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE)
    context = zmq.Context()
    client = context.socket(kind)
    client.linger, client.rcvtimeo = 0, int(1000 * DEADLINE)
    try:
        client.connect(server.stdout.readline().decode().strip())
        yield server, client
    finally:
        client.close()
        context.term()
        server.kill()
        server.communicate()


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace to count system calls")
def test_system_calls_for_one_request_at_a_time(tmp_path):
    """The dearest case: each request wakes the server. Counted in all of its threads."""
    with apart(zmq.REQ) as (server, client):

        def ask(count):
            for _ in range(count):
                client.send(b"x")
                client.recv()

        ask(20)
        log = tmp_path / "calls"
        with subprocess.Popen(
            ["strace", "-f", "-c", "-o", str(log), "-p", str(server.pid)],
            stderr=subprocess.PIPE,
            text=True,
        ) as tracer:
            attached = tracer.stderr.readline()
            if "attached" not in attached:
                pytest.skip(f"strace may not attach here: {attached.strip()}")
            ask(REQUESTS)
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20 * PATIENCE)
    calls = {
        fields[-1]: int(fields[3])
        for fields in map(str.split, log.read_text().splitlines())
        if len(fields) >= 5 and fields[3].isdigit() and fields[-1] != "total"
    }
    # libzmq asks for its pid at each signal.
    made = sum(count for name, count in calls.items() if name != "getpid")
    assert made <= 23 * REQUESTS, {
        name: round(count / REQUESTS, 2) for name, count in calls.items()
    }
    assert calls.get("futex", 0) <= REQUESTS


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc", reason="other C libraries keep freed memory by other rules"
)
@pytest.mark.parametrize(("size", "in_flight"), [(60_000, 40), (1_000_000, 4)])
def test_large_messages_cost_no_page_faults(size, in_flight):
    """What one of them has freed, the next one takes: 14 and 300 faults a message where the C
    library gives it back."""
    with apart(zmq.DEALER) as (server, client):

        def ask(count):
            for _ in range(in_flight):
                client.send_multipart([b"", bytes(size)])
            for number in range(in_flight, count + in_flight):
                assert len(client.recv_multipart()[1]) == size
                if number < count:
                    client.send_multipart([b"", bytes(size)])

        def faults():
            return int(Path(f"/proc/{server.pid}/stat").read_text().rpartition(")")[2].split()[7])

        def cost():
            before = faults()
            ask(REQUESTS)
            return faults() - before

        ask(2 * REQUESTS)
        # Of some: where the machine is busy, more of them wait at once than ever before, and take
        # new memory.
        assert any(cost() < REQUESTS for _ in range(6))
