"""A handler's greenlet is its request's: nobody notices that greenlets are used again."""

from __future__ import annotations

import contextvars
import gc
import logging
import subprocess
import sys
import weakref

import gevent
import gevent.local
import gevent.pool
import pytest
import zmq
from greenlet import GreenletExit, getcurrent

from green_router.serving.greenlets import (
    HandlerGreenlet,
    left_nothing,
    left_nothing_pure,
    references,
)
from green_router.testing import DEADLINE, eventually, settled


class Kept:
    """Something with an end."""


@pytest.fixture
def ask_in_turn(serve):
    """``ask_in_turn(handler, *bodies)``: the replies, one request after the other by one DEALER, in
    a few bursts."""

    def ask(handler, *bodies, **settings):
        server = serve(handler, **settings)
        client = server.client(zmq.DEALER)
        replies = []
        with gevent.Timeout(DEADLINE):
            for body in bodies:
                client.send_multipart([b"", body])
            while len(replies) < len(bodies):
                replies.append(client.recv_multipart()[1])
        return replies

    return ask


def blocked(handle):
    """The same handler, which gives way first."""

    def handler(request):
        gevent.sleep(0)
        return handle(request)

    return handler


both = pytest.mark.parametrize("shape", [lambda handle: handle, blocked], ids=["quick", "blocking"])


# -- locals ----------------------------------------------------------------------------------------


@both
def test_a_local_is_the_request_s(ask_in_turn, shape):
    here = gevent.local.local()

    def login(request):
        if request.data.startswith(b"login "):
            here.user = request.data[6:]
        return getattr(here, "user", b"anonymous")

    replies = ask_in_turn(
        shape(login), b"login alice", *[b"who"] * 20, b"login bob", *[b"who"] * 20
    )
    assert sorted(replies) == [b"alice", *[b"anonymous"] * 40, b"bob"]


@both
@pytest.mark.parametrize("keep", ["local", "attribute", "weak key"])
def test_what_a_request_keeps_is_let_go_at_its_end(serve, shape, keep):
    here, by_greenlet, alive = gevent.local.local(), weakref.WeakKeyDictionary(), weakref.WeakSet()

    def handle(request):
        kept = Kept()
        alive.add(kept)
        if keep == "local":
            here.kept = kept
        elif keep == "attribute":
            gevent.getcurrent().kept = kept
        else:
            assert gevent.getcurrent() not in by_greenlet
            by_greenlet[gevent.getcurrent()] = kept
        return b"%d" % hasattr(gevent.getcurrent(), "kept")

    server = serve(shape(handle))
    client = server.client(zmq.DEALER)
    for _ in range(300):
        client.send_multipart([b"", b""])
    eventually(lambda: settled(server, "answered") == 300)
    # It goes with the greenlet, and such a one is not used again when it is next wanted.
    if keep == "weak key":
        for _ in range(300):
            client.send_multipart([b"", b""])
        eventually(lambda: settled(server, "answered") == 600)
        return
    gc.collect()
    eventually(lambda: not alive)


def test_a_local_of_the_standard_library_in_a_patched_program(tmp_path):
    """The example of every login: patched, ``threading.local`` is the greenlet's."""
    program = tmp_path / "app.py"
    program.write_text(
        "from gevent import monkey; monkey.patch_all()\n"
        "import threading\n"
        "from green_router.testing import running_server\n"
        "here = threading.local()\n"
        "def handle(request):\n"
        "    if request.data.startswith(b'login '): here.user = request.data[6:]\n"
        "    threading.current_thread()\n"
        "    return getattr(here, 'user', b'anonymous')\n"
        "with running_server(handle) as server:\n"
        "    print(server.ask(b'login alice'), server.ask(b'who'), server.ask(b'who'))\n"
    )
    done = subprocess.run(
        [sys.executable, str(program)],
        capture_output=True,
        text=True,
        timeout=6 * DEADLINE,
        check=False,
    )
    assert (done.stdout, done.stderr) == ("b'alice' b'anonymous' b'anonymous'\n", "")


def test_on_error_sees_no_request_s_locals(serve):
    here = gevent.local.local()

    def handle(request):
        here.user = request.data
        raise ValueError

    def on_error(request, error):
        found = getattr(here, "user", b"nobody")
        here.user = request.data
        return found

    server = serve(handle, on_error=on_error)
    assert [server.ask(b"a"), server.ask(b"b"), server.ask(b"c")] == [b"nobody"] * 3


# -- greenlets that somebody has noted -------------------------------------------------------------


@both
@pytest.mark.parametrize(
    "kill",
    [
        gevent.kill,
        lambda glet: glet.throw(GreenletExit),
        lambda glet: glet.kill(block=False),
        lambda glet: gevent.killall([glet]),
    ],
    ids=["gevent.kill", "throw", "kill", "killall"],
)
def test_a_late_kill_harms_nobody(serve, shape, kill):
    jobs = []
    gate = gevent.event.Event()

    def handle(request):
        if request.data == b"noted":
            jobs.append(gevent.getcurrent())
            return b"done"
        gate.wait()
        return b"done too"

    server = serve(shape(handle))
    assert server.ask(b"noted") == b"done"
    client = server.client(zmq.DEALER)
    for _ in range(20):
        client.send_multipart([b"", b"waits"])
    eventually(lambda: server.stats()["in_flight"] == 20)
    assert jobs[0].dead
    assert jobs[0].ready()
    kill(jobs[0])
    gevent.sleep(0)
    gate.set()
    assert [client.recv_multipart()[1] for _ in range(20)] == [b"done too"] * 20
    assert settled(server, "answered") == 21


def test_a_timely_kill_ends_the_handler(serve):
    jobs = {}

    def handle(request):
        jobs[request.data] = gevent.getcurrent()
        gevent.sleep(60)

    server = serve(handle)
    client = server.client(zmq.DEALER)
    for name in (b"kill", b"killall", b"throw", b"join"):
        client.send_multipart([b"", name])
    eventually(lambda: len(jobs) == 4)
    assert not any(job.dead for job in jobs.values())
    jobs[b"join"].join(timeout=0)
    assert not jobs[b"join"].ready()
    jobs[b"kill"].kill()
    assert jobs[b"kill"].ready()
    gevent.killall([jobs[b"killall"]])
    assert jobs[b"killall"].ready()
    gevent.get_hub().loop.run_callback(jobs[b"throw"].throw)
    jobs[b"throw"].join()
    ended = gevent.spawn(gevent.joinall, [jobs[b"join"]])
    gevent.kill(jobs[b"join"])
    ended.get(timeout=DEADLINE)
    eventually(lambda: settled(server, "failed") == 4)


def test_gevent_s_functions_work_on_it(serve):
    linked, pool = [], gevent.pool.Group()
    seen = {}

    def handle(request):
        me = gevent.getcurrent()
        me.rawlink(linked.append)
        me.link(linked.append)
        me.link(print)
        me.unlink(print)
        pool.add(me)
        seen.update(
            ident=me.minimal_ident,
            name=me.name,
            loop=me.loop,
            ready=me.ready(),
            successful=me.successful(),
        )
        gevent.sleep(0)
        return b"done"

    server = serve(handle)
    assert server.ask() == b"done"
    eventually(lambda: len(linked) == 2)
    assert linked[0] is linked[1]
    assert isinstance(linked[0], HandlerGreenlet)
    assert not len(pool)
    assert seen["loop"] is gevent.get_hub().loop
    assert seen["name"] == f"HandlerGreenlet-{seen['ident']}"
    assert not seen["ready"]
    assert not seen["successful"]
    late = []
    linked[0].rawlink(late.append)
    gevent.wait([linked[0]], timeout=DEADLINE)
    assert late == [linked[0]]
    assert not hasattr(linked[0], "value")


def test_a_forgotten_timeout_hits_nobody_else(serve):
    forgotten = []

    def handle(request):
        if request.data == b"forgets":
            forgotten.append(gevent.Timeout.start_new(0.02))
            return b"done"
        gevent.sleep(0.05)
        return b"done too"

    server = serve(handle)
    assert server.ask(b"forgets") == b"done"
    client = server.client(zmq.DEALER)
    for _ in range(20):
        client.send_multipart([b"", b"waits"])
    assert [client.recv_multipart()[1] for _ in range(20)] == [b"done too"] * 20
    assert not forgotten[0].pending
    forgotten[0].close()


def test_a_link_that_raises_is_shown_and_harms_nobody(serve, capsys):
    def handle(request):
        gevent.getcurrent().rawlink(lambda glet: 1 // 0)
        return b"done"

    server = serve(handle)
    assert [server.ask(), server.ask()] == [b"done", b"done"]
    eventually(lambda: capsys.readouterr().err.count("ZeroDivisionError") >= 1)


# -- and yet they are used again -------------------------------------------------------------------


COUNTED = pytest.mark.skipif(
    not hasattr(sys, "getrefcount"), reason="without counts of references no greenlet is used again"
)
VARIABLE = contextvars.ContextVar("VARIABLE")


def refer(greenlet):
    """Keep a reference where only the greenlet's frame has it."""
    return greenlet


@COUNTED
@pytest.mark.parametrize("left_nothing", [left_nothing, left_nothing_pure], ids=["in use", "pure"])
@pytest.mark.parametrize(
    "leave",
    [
        None,
        refer,
        weakref.ref,
        lambda greenlet: setattr(greenlet, "attribute", 1),
        lambda greenlet: greenlet.rawlink(print),
        lambda greenlet: VARIABLE.set(1),
    ],
    ids=["nothing", "reference", "weak reference", "attribute", "link", "context"],
)
def test_what_a_handler_has_left_behind(left_nothing, leave):
    def run():
        me = getcurrent()
        me.at_work, count = True, references(me)
        seen.append(left_nothing(me, count))
        kept = leave and leave(me)
        seen.append(left_nothing(me, count))
        del kept
        me.links = me.gr_context = None
        me.__dict__.clear()
        seen.append(left_nothing(me, count))

    seen = []
    HandlerGreenlet(run, getcurrent()).switch()
    assert seen == [True, leave is None, True]


@pytest.mark.skipif(left_nothing is left_nothing_pure, reason="Python serves")
@pytest.mark.parametrize("arguments", [(), (1,), (1, 2), ("", "", "")])
def test_only_a_greenlet_is_asked_about(arguments):
    with pytest.raises(TypeError):
        left_nothing(*arguments)


@COUNTED
@both
def test_greenlets_are_used_again(serve, shape):
    """One after the other, a handful is enough; nobody holds them."""
    idents = set()

    def handle(request):
        idents.add(id(gevent.getcurrent()))
        return b""

    server = serve(shape(handle))
    for _ in range(50):
        server.ask()
    assert len(idents) == 1


def test_a_deferred_request_holds_no_greenlet(serve):
    """Ten that are answered later, and one greenlet for all."""
    kept, idents = [], set()

    def handle(request):
        idents.add(id(gevent.getcurrent()))
        kept.append(request)

    server = serve(handle)
    client = server.client(zmq.DEALER)
    for sent in range(1, 11):
        client.send_multipart([b"", b""])
        eventually(lambda: len(kept) == sent)  # noqa: B023
    if hasattr(sys, "getrefcount"):
        assert len(idents) == 1
    for request in kept:
        request.reply(b"late")
    assert [client.recv_multipart()[1] for _ in range(10)] == [b"late"] * 10


def test_no_greenlet_is_left_behind(serve):
    """Neither idle ones, nor those that were linked to, nor those that run when the server
    stops."""
    gc.collect()
    before = sum(isinstance(thing, HandlerGreenlet) for thing in gc.get_objects())

    def handle(request):
        gevent.getcurrent().rawlink(id)
        gevent.sleep(60 if request.data == b"runs" else 0)

    server = serve(handle)
    client = server.client(zmq.DEALER)
    for body in [b"", b"runs"] * 20:
        client.send_multipart([b"", body])
    eventually(lambda: server.stats()["in_flight"] == 20)
    server.stop(0)
    gevent.sleep(0)

    def left():
        gc.collect()
        return sum(isinstance(thing, HandlerGreenlet) for thing in gc.get_objects()) - before

    eventually(lambda: left() <= 0)


def test_an_idle_greenlet_keeps_no_request(serve, caplog):
    """Neither of a handler, nor of on_error, nor of what was logged about one."""
    caplog.set_level(logging.CRITICAL + 1, "green_router")  # what is captured would be kept
    alive = weakref.WeakSet()

    def handle(request):
        alive.add(request)
        if request.data == b"fails":
            raise ValueError
        if request.data == b"waits":
            gevent.sleep(60)
        return b""

    server = serve(handle, handler_timeout=0.05, on_error=lambda request, error: b"failed")
    for body in (b"", b"fails", b"waits"):
        server.ask(body)
    eventually(lambda: gc.collect() is not None and not alive)
