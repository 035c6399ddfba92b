"""Stopping: what was taken is answered, the hub goes on, signals are noted and given back."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import weakref
from functools import partial
from pathlib import Path
from time import monotonic

import gevent
import gevent.event
import pytest
import zmq
import zmq.green

from green_router import BindError, Server, ServerStopped, StateError, WrongProcess
from green_router.testing import PATIENCE, assert_balanced, eventually, running_server, settled


def test_stop_answers_what_was_taken_and_takes_no_more(serve):
    gate = gevent.event.Event()
    server = serve(lambda request: gate.wait() and request.data)
    client = server.client(zmq.DEALER)
    for number in range(100):
        client.send_multipart([b"", b"%d" % number])
    eventually(lambda: server.stats()["in_flight"] == 100)
    stopping = gevent.spawn(server.stop)
    eventually(lambda: not server.started)
    client.send_multipart([b"", b"too late"])
    gevent.sleep(0.02)
    gate.set()
    stopping.join()
    assert sorted(int(client.recv_multipart()[1]) for _ in range(100)) == list(range(100))
    assert server.stats()["received"] == 100
    assert settled(server, "answered") == 100


def test_what_takes_longer_than_the_time_is_abandoned(serve):
    ended = []

    def handler(request):
        try:
            gevent.sleep(60)
        finally:
            ended.append(True)

    kept = []
    server = serve(
        lambda request: kept.append(request) if request.data == b"keep" else handler(request)
    )
    client = server.client(zmq.DEALER)
    for data in (b"keep", b"x", b"x"):
        client.send_multipart([b"", data])
    eventually(lambda: server.stats()["in_flight"] == 3)
    begun = monotonic()
    server.stop(0.1)
    assert monotonic() - begun < 1 + server.settings.linger
    assert settled(server, "abandoned") == 3
    eventually(lambda: len(ended) == 2)
    with pytest.raises(ServerStopped):
        kept[0].reply(b"x")
    with pytest.raises(ServerStopped):
        server.send(b"me", b"x")


def test_a_blocking_on_error_is_abandoned_too(serve):
    server = serve(lambda request: 1 / 0, on_error=lambda request, error: gevent.sleep(60))
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["in_flight"])
    server.stop(0.05)
    assert settled(server, "abandoned") == 1


def test_a_second_stop_shortens_the_time(serve):
    server = serve(lambda request: gevent.sleep(60))
    server.client(zmq.DEALER).send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["in_flight"])
    first = gevent.spawn(server.stop, 50)
    gevent.sleep(0)
    server.stop(0)
    assert first.ready()
    assert settled(server, "abandoned") == 1


def at_work_after_the_reply(gate, ended):
    def handler(request):
        request.reply(b"accepted")
        try:
            gate.wait()
        finally:
            ended.append(gate.is_set())

    return handler


def test_a_stop_waits_for_work_after_the_reply(serve):
    gate, ended = gevent.event.Event(), []
    server = serve(at_work_after_the_reply(gate, ended))
    assert [server.ask(b"x") for _ in range(3)] == [b"accepted"] * 3
    stopping = gevent.spawn(server.stop)
    eventually(lambda: not server.started)
    assert not stopping.ready()
    gevent.spawn_later(0.05, gate.set)
    stopping.get(timeout=10 * PATIENCE)
    assert ended == [True] * 3
    assert settled(server, "answered") == 3


@pytest.mark.parametrize("how", ["timeout", "second stop"])
def test_work_after_the_reply_that_takes_longer_is_cut_off_and_named(serve, caplog, how):
    gate, ended = gevent.event.Event(), []
    server = serve(at_work_after_the_reply(gate, ended))
    assert [server.ask(b"x") for _ in range(3)] == [b"accepted"] * 3
    if how == "timeout":
        server.stop(0.05)
    else:
        stopping = gevent.spawn(server.stop)
        eventually(lambda: not server.started)
        server.stop(0)
        assert stopping.ready()
    eventually(lambda: len(ended) == 3)
    assert ended == [False] * 3
    (said,) = [record.getMessage() for record in caplog.records if "cut off" in record.getMessage()]
    assert said.startswith(
        "stopping: cut off 3 of at_work_after_the_reply.<locals>.handler at work after the reply, "
        "the oldest on <Request "
    )


def test_a_handler_that_stops_its_server_may_go_on(serve):
    gate, ended = gevent.event.Event(), []

    def handler(request):
        request.reply(b"stopping")
        server.stop()
        gate.wait()
        ended.append(server.started)

    server = serve(handler)
    assert server.ask(b"x") == b"stopping"
    assert not ended
    gate.set()
    eventually(lambda: "stopped" in repr(server))
    assert ended == [False]


def reached(server):
    return server.stats()["in_flight"]


@pytest.mark.parametrize(
    "how", ["idle", "answered", "waiting", "after the reply", "never started", "refused"]
)
def test_nothing_keeps_a_server_that_has_stopped(how):
    def handler(request):
        if how == "after the reply":
            request.reply(b"x")
        if how in ("waiting", "after the reply"):
            gevent.sleep(60)
        return b"x"

    server = Server(handler, linger=0.1)
    context = zmq.green.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    server.bind("tcp://127.0.0.1:0" if how != "refused" else "tcp://203.0.113.77:0")
    if how == "refused":
        with pytest.raises(BindError):
            server.start()
    elif how != "never started":
        server.start()
        client.connect(server.endpoints[0])
        if how != "idle":
            client.send_multipart([b"", b"x"])
        if how in ("answered", "after the reply"):
            assert client.recv_multipart() == [b"", b"x"]
        elif how == "waiting":
            eventually(partial(reached, server))
    server.stop(0)
    gone = weakref.ref(server)
    del server
    client.close()
    context.term()

    def collected():
        gc.collect()
        return gone() is None

    eventually(collected)


def test_a_stop_whose_caller_is_cut_short_goes_on(serve):
    gate = gevent.event.Event()
    server = serve(lambda request: gate.wait() and b"done")
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["in_flight"])
    with pytest.raises(gevent.Timeout), gevent.Timeout(0.02):
        server.stop()
    assert not server.started
    gate.set()
    assert client.recv_multipart() == [b"", b"done"]
    eventually(lambda: "stopped" in repr(server))
    assert settled(server, "answered") == 1


CLIENT = """
import sys, zmq
client = zmq.Context().socket(zmq.DEALER)
client.rcvhwm = 1
client.connect(sys.argv[1])
for _ in range(100):
    client.send_multipart([b"", b"x"])
client.recv_multipart()
print("asked", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="needs SIGSTOP")
def test_the_hub_goes_on_while_megabytes_wait_for_a_client_that_is_stopped():
    """10 MB wait for a process that is stopped by SIGSTOP; stop() ends in time, and a ticker never
    stops ticking."""
    with running_server(
        lambda request: b"x" * 100_000, linger=0.5, send_high_water_mark=10
    ) as server:
        client = subprocess.Popen(
            [sys.executable, "-c", CLIENT, server.endpoints[0]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        gevent.get_hub().threadpool.apply(client.stdout.readline)
        os.kill(client.pid, signal.SIGSTOP)
        try:
            eventually(lambda: server.stats()["received"] == 100)
            gaps, last = [], monotonic()
            stopping = gevent.spawn(server.stop, 0.5)
            while not stopping.ready():
                gevent.sleep(0.005)
                gaps.append(monotonic() - last)
                last = monotonic()
            assert sum(gaps) < 0.5 + 0.5 + 1 * PATIENCE
            assert max(gaps) < 0.25 * PATIENCE, "the hub stood still"
            assert_balanced(server)
        finally:
            os.kill(client.pid, signal.SIGCONT)
            client.kill()
            client.wait()
            client.stdin.close()
            client.stdout.close()


PROGRAM = """
import gevent, os, signal, sys
from green_router import Server

def program_has_this(*_):
    raise AssertionError("the program's own handler ran")

def busy(request):
    if request.data == b"spin":
        while True:
            pass
    gevent.sleep(float(request.data))
    return request.data

signal.signal(signal.SIGTERM, program_has_this)
before = signal.getsignal(signal.SIGINT)        # a shell may have started this with SIGINT ignored
server = Server(busy, grace=30)
server.bind("tcp://127.0.0.1:0")
server.start()
print(server.endpoints[0], flush=True)
try:
    server.serve_forever()
finally:
    assert signal.getsignal(signal.SIGTERM) is program_has_this
    assert signal.getsignal(signal.SIGINT) is before
    fates = {name: count for name, count in server.stats()["fates"].items() if count}
    print(fates, flush=True)
"""


@pytest.fixture
def program():
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    context = zmq.Context()
    client = context.socket(zmq.DEALER)
    client.linger = 0
    client.connect(process.stdout.readline().decode().strip())
    process.client = client
    yield process
    if process.poll() is None:
        process.kill()
    process.communicate()
    client.close()
    context.term()


def wait(process):
    out, err = process.communicate(timeout=20 * PATIENCE)
    return process.returncode, out.decode().strip(), err.decode()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_drains(program, number):
    program.client.send_multipart([b"", b"0"])
    assert program.client.recv_multipart() == [b"", b"0"]
    program.client.send_multipart([b"", b"0.4"])
    program.client.send_multipart([b"", b"0"])
    assert program.client.recv_multipart() == [b"", b"0"]
    program.send_signal(number)
    assert program.client.recv_multipart() == [b"", b"0.4"]
    code, out, err = wait(program)
    assert (code, out) == (0, "{'answered': 3}")
    # No log is set up there: who has pressed Ctrl-C sees it all the same.
    assert err == (
        f"{signal.Signals(number).name}: draining, for 30 s at the most: 1 request in flight; a "
        "second signal ends it now\n"
    )


def test_a_second_signal_ends_at_once(program):
    program.client.send_multipart([b"", b"60"])
    program.client.send_multipart([b"", b"0"])
    assert program.client.recv_multipart() == [b"", b"0"]
    program.send_signal(signal.SIGTERM)
    taken = 1
    program.client.send_multipart([b"", b"0"])
    while program.client.poll(200):  # until none is taken any more
        program.client.recv_multipart()
        taken += 1
        program.client.send_multipart([b"", b"0"])
    program.send_signal(signal.SIGTERM)
    assert wait(program)[:2] == (0, f"{{'answered': {taken}, 'abandoned': 1}}")


def test_a_second_signal_ends_at_once_a_handler_that_never_gives_way(program):
    program.client.send_multipart([b"", b"0"])
    assert program.client.recv_multipart() == [b"", b"0"]
    program.client.send_multipart([b"", b"spin"])
    assert not program.client.poll(200)
    program.send_signal(signal.SIGINT)
    assert not program.client.poll(200)
    program.send_signal(signal.SIGINT)
    code, out, err = wait(program)
    assert code != 0
    assert out == "{'answered': 1, 'failed': 1}"
    assert "KeyboardInterrupt" in err


def test_an_idle_program_ends_on_the_first_signal(program):
    # Answered: so it serves, and has its signal handlers.
    program.client.send_multipart([b"", b"0"])
    assert program.client.recv_multipart() == [b"", b"0"]
    program.send_signal(signal.SIGTERM)
    assert wait(program)[:2] == (0, "{'answered': 1}")


def test_nothing_is_left_open(open_files):
    def cycle():
        with running_server(lambda request: request.data) as server:
            for _ in range(3):
                server.ask(b"x")

    cycle()
    before = open_files()
    for _ in range(10):
        cycle()
    assert open_files() <= before


def test_states(serve):
    server = serve(lambda request: b"x")
    with pytest.raises(StateError, match="serving"):
        server.start()
    server.stop()
    server.stop()
    for call in (server.start, lambda: server.bind("tcp://127.0.0.1:0"), server.serve_forever):
        with pytest.raises(StateError, match="make a new one"):
            call()
    fresh = Server(lambda request: b"x")
    with pytest.raises(ServerStopped):
        fresh.send(b"me", b"x")
    fresh.stop()
    assert not fresh.started


BAD_ENDPOINTS = [
    ("nonsense", "tcp://host:port"),
    ("tcp://127.0.0.1", "write tcp://127.0.0.1:5555"),
    ("ftp://x", "tcp, ipc or inproc"),
    ("tcp://127.0.0.1:70000", "'70000' is no port"),
    ("tcp://127.0.0.1:5570-5571", "'5570-5571' is no port"),
    ("tcp://:5555", "write tcp://*:5555"),
    ("ipc:///tmp/\udcff", "UTF-8"),
    ("ipc:///tmp/\0", "zero byte"),
    ("tcp://203.0.113.77:0", "no such address"),
    ("ipc:///no/such/dir/s", "directory"),
    ("ipc://" + "x" * 120, "shorter"),
    ("udp://127.0.0.1:5", "tcp, ipc or inproc"),
]


@pytest.mark.parametrize(("endpoint", "words"), BAD_ENDPOINTS)
def test_an_endpoint_that_cannot_be_served_raises_in_the_caller(open_files, endpoint, words):
    server = Server(lambda request: b"x")
    server.bind("tcp://127.0.0.1:0", endpoint)
    with pytest.raises(BindError) as caught:
        server.start()
    assert words in str(caught.value)
    assert endpoint in str(caught.value)
    assert not server.started


def test_a_port_in_use(serve):
    server = serve(lambda request: b"x")
    with pytest.raises(BindError, match="in use"):
        serve(lambda request: b"x", server.endpoints[0])


def test_any_number_of_endpoints_also_while_serving(serve, tmp_path):
    server = serve(
        lambda request: request.data,
        "tcp://127.0.0.1:*",
        f"ipc://{tmp_path}/a",
        "inproc://several",
        "tcp://[::1]:0",
    )
    server.bind(f"ipc://{tmp_path}/b")
    assert len(server.endpoints) == 5
    assert all("*" not in e and not e.endswith(":0") for e in server.endpoints)
    for endpoint in server.endpoints:
        client = zmq.green.Context.shadow(server.context.underlying).socket(zmq.REQ)
        client.linger, client.ipv6 = 0, 1
        client.connect(endpoint)
        client.send(endpoint.encode())
        assert client.recv() == endpoint.encode()
        client.close()


@pytest.mark.parametrize(
    ("endpoint", "words"),
    [
        (b"tcp://127.0.0.1:0", "bytes; decode them"),
        (None, "NoneType"),
        (5555, "write tcp://127.0.0.1:5555"),
        (True, "bool"),
        (Path("/run/app"), "write ipc:///run/app"),
        (["tcp://127.0.0.1:0", "ipc://x"], "give each one for itself"),
    ],
)
def test_an_endpoint_that_is_no_text(endpoint, words):
    server = Server(lambda request: b"x")
    for call in (server.bind, server.serve_forever, lambda endpoint: server.adopt(endpoint, 0)):
        with pytest.raises(BindError) as caught:
            call(endpoint)
        assert str(caught.value).startswith(
            f"cannot bind {endpoint!r}: an endpoint is a text, and "
        )
        assert words in str(caught.value)
    with running_server(lambda request: request.data) as server:
        with pytest.raises(BindError, match="an endpoint is a text"):
            server.bind(endpoint)
        assert server.ask(b"x") == b"x"


def test_a_relative_path_is_removed_after_the_directory_was_changed(serve, tmp_path, monkeypatch):
    """And what has the same name in the other directory stays."""
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "s").touch()
    monkeypatch.chdir(tmp_path)
    server = serve(lambda request: request.data, "ipc://s")
    assert server.ask(b"x") == b"x"
    monkeypatch.chdir(tmp_path / "other")
    server.close_clients()
    server.stop()
    assert [path.name for path in tmp_path.iterdir()] == ["other"]
    assert (tmp_path / "other" / "s").exists()


def test_ipc_paths_are_not_taken_from_the_living_but_from_the_dead(serve, tmp_path):
    endpoint = f"ipc://{tmp_path}/s"
    first = serve(lambda request: b"first", endpoint)
    with pytest.raises(BindError, match="another process"):
        serve(lambda request: b"second", endpoint)
    assert first.ask(b"x") == b"first"
    first.close_clients()
    first.stop()
    assert not os.path.exists(tmp_path / "s")
    killed = subprocess.Popen(
        [
            sys.executable,
            "-c",
            f"""
import os, signal
from green_router import Server
server = Server(lambda request: b"x")
server.bind({endpoint!r})
server.start()
os.kill(os.getpid(), signal.SIGKILL)""",
        ]
    )
    killed.wait()
    assert os.path.exists(tmp_path / "s")
    assert serve(lambda request: b"third", endpoint).ask(b"x") == b"third"
    (tmp_path / "file").write_text("not a socket")
    with pytest.raises(BindError, match="another kind"):
        serve(lambda request: b"x", f"ipc://{tmp_path}/file")
    assert (tmp_path / "file").read_text() == "not a socket"


def test_a_path_that_is_made_up_goes_with_its_directory(serve, tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    server = serve(lambda request: b"x", "ipc://*")
    assert server.endpoints[0].startswith(f"ipc://{tmp_path}/")
    server.stop()
    assert not [*tmp_path.iterdir()]


def test_another_process_is_told_so():
    code = """
import os, sys
from green_router import Server, WrongProcess
server = Server(lambda request: b"x")
server.bind("inproc://x")
server.start()
if os.fork() == 0:
    server.stop()       # harmless: a child that ends goes through every ``finally``
    for call in (server.start, lambda: server.bind("inproc://y"), lambda: server.send(b"a", b"b")):
        try:
            call()
        except WrongProcess as error:
            assert "fork" in str(error)
        else:
            os._exit(1)
    os._exit(0)
status = os.waitpid(-1, 0)[1]
server.stop()
sys.exit(os.waitstatus_to_exitcode(status))
"""
    assert (
        subprocess.run(
            [sys.executable, "-W", "ignore", "-c", code], timeout=20 * PATIENCE, check=False
        ).returncode
        == 0
    )
    assert WrongProcess("this", 1, 2).code == "wrong_process"
