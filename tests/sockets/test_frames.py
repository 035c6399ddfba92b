"""Whole messages from and to a ROUTER: the same calls, results and errors whoever serves them."""

from __future__ import annotations

import collections
import errno
import logging
import os
import subprocess
import sys
import threading

import pytest
import zmq
from zmq.backend import Socket as Compiled

from green_router.sockets.frames import FULL, GONE, IN_USE, KNOWS_BY_THE_FIRST, SENT, frames_of
from green_router.sockets.frames_pure import PureFrames
from green_router.testing import DEADLINE

MAKERS = {
    "pure": lambda router, body_second=False: PureFrames(
        lambda *flags: Compiled.recv(router, *flags),
        lambda *data: Compiled.send(router, *data),
        body_second,
        lambda: router.get(zmq.EVENTS) & zmq.POLLIN,
    ),
    "in use": lambda router, body_second=False: frames_of(router, body_second),
}

BODY_SECOND = [False, True] if KNOWS_BY_THE_FIRST else [False]

needs_compiled = pytest.mark.skipif(
    IN_USE != "compiled", reason="the compiled module is not in use"
)

ENDPOINTS = ("inproc://frames", "tcp://127.0.0.1:*", "ipc://*")


@pytest.fixture(params=MAKERS)
def make(request):
    return MAKERS[request.param]


@pytest.fixture
def context():
    with zmq.Context() as context:
        yield context


@pytest.fixture
def router(context):
    """A ROUTER with ROUTER_MANDATORY."""
    router = context.socket(zmq.ROUTER)
    router.router_mandatory, router.sndhwm = 1, 2
    yield router
    router.close(0)


@pytest.fixture
def dealer(context, router):
    """``dealer(routing_id, endpoint)``: a DEALER that is connected to the ROUTER; it has sent
    ``[b"hello"]``."""
    dealer = context.socket(zmq.DEALER)

    def connect(routing_id=b"peer", endpoint=ENDPOINTS[0]):
        router.bind(endpoint)
        dealer.routing_id, dealer.rcvhwm, dealer.rcvtimeo = routing_id, 2, int(1000 * DEADLINE)
        dealer.connect(router.last_endpoint)
        dealer.send(b"hello")
        assert router.poll(1000 * DEADLINE)
        return dealer

    yield connect
    dealer.close(0)


def receive(router, frames, most=64):
    """The next message, which is on its way."""
    assert router.poll(1000 * DEADLINE)
    return frames.receive(most)


def test_nothing_to_receive(make, router):
    assert make(router).receive(64) is None


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("body_second", BODY_SECOND)
@pytest.mark.parametrize(
    "others",
    [
        [b"body"],
        [b""],
        [b"", b"body"],
        [b"hop", b"", b"one", b"two"],
        [b"x" * 100_000],
        [b"x"] * 64,
    ],
)
def test_a_message_there_and_back(make, router, dealer, endpoint, body_second, others):
    client, frames = dealer(endpoint=endpoint), make(router, body_second)
    assert frames.readable()
    assert frames.receive(64)[0] == [b"peer", b"hello"]
    assert not frames.readable()
    client.send_multipart(others)
    message, _ = receive(router, frames)
    assert message == [b"peer", *others]
    assert {type(frame) for frame in message} == {bytes}
    assert frames.receive(64) is None
    assert frames.send(message, len(message) - 1, message[-1]) == SENT
    assert client.recv_multipart() == others
    assert frames.send(message, 1, others) == SENT
    assert client.recv_multipart() == others


@pytest.mark.parametrize("count", [3, 4, 5, 6, 8, 20])
def test_a_message_of_too_many_frames(make, router, dealer, count):
    """One more than may be is returned; the rest is skipped, so many at a time; the next message is
    whole."""
    client, frames = dealer(), make(router)
    frames.receive(64)
    client.send_multipart([str(number).encode() for number in range(1, count)])
    client.send(b"next")
    message, _ = receive(router, frames, 4)
    assert message == [b"peer", *(str(number).encode() for number in range(1, min(count, 5)))]
    answers = [frames.skip(4)]
    while not answers[-1]:
        answers.append(frames.skip(4))
    assert len(answers) == max(1, -(-(count - 5) // 4))
    assert frames.skip(4) is True
    assert receive(router, frames)[0] == [b"peer", b"next"]


def test_a_peer_that_is_full(make, router, dealer):
    """Whole or not at all: what was refused has left nothing behind."""
    client, frames = dealer(), make(router)
    sent = 0
    while frames.send([b"peer", b""], 2, [b"one", str(sent).encode()]) == SENT:
        sent += 1
        assert sent < 1000
    assert frames.send([b"peer", b""], 2, b"no room") == FULL
    for number in range(sent):
        assert client.recv_multipart() == [b"", b"one", str(number).encode()]
    while frames.send([b"peer"], 1, b"again") == FULL:
        router.poll(1)
    assert client.recv_multipart() == [b"again"]


def test_a_peer_that_is_not_there(make, router):
    assert make(router).send([b"nobody", b""], 2, b"body") == GONE
    assert make(router).send([b"nobody"], 1, [b"one", b"two"]) == GONE


def test_a_closed_socket_is_an_error(make, router):
    frames = make(router)
    router.close()
    for call in (
        lambda: frames.receive(64),
        lambda: frames.send([b"peer"], 1, b""),
        frames.readable,
    ):
        with pytest.raises(zmq.ZMQError) as error:
            call()
        assert error.value.errno == errno.ENOTSOCK


@pytest.mark.parametrize("body_second", BODY_SECOND)
@pytest.mark.parametrize(
    ("endpoint", "address"),
    [(ENDPOINTS[0], None), (ENDPOINTS[1], "127.0.0.1"), (ENDPOINTS[2], "localhost:")],
)
def test_origin_knows_the_connection(make, router, dealer, endpoint, address, body_second):
    """Also when the message is no more, and however it was looked at before: EVENTS takes it out of
    the pipe."""
    client, frames = dealer(endpoint=endpoint), make(router, body_second)
    _, one = frames.receive(64)
    client.send_multipart([b"", b"x"])
    assert router.poll(1000 * DEADLINE)
    _, two = frames.receive(64)
    for origin in (one, two):
        if address is None:
            with pytest.raises(zmq.ZMQError) as error:
                origin.get("Peer-Address")
            assert error.value.errno == errno.EINVAL
        elif sys.platform == "linux" or address[0] == "1":
            assert origin.get("Peer-Address").startswith(address)
            assert origin.get("Socket-Type") == "DEALER"
            assert origin.get(zmq.SRCFD) > 0
        with pytest.raises(zmq.ZMQError):
            origin.get("No-Such-Property")


def test_origin_knows_what_authentication_has_said(make, context):
    """The user id, and a property of the authenticator's own; after the socket is closed, too."""
    zap, router, client = (
        context.socket(zmq.REP),
        context.socket(zmq.ROUTER),
        context.socket(zmq.DEALER),
    )
    try:
        zap.bind("inproc://zeromq.zap.01")
        router.zap_domain = b"global"
        router.bind("tcp://127.0.0.1:*")
        client.connect(router.last_endpoint)
        client.send(b"hello")
        assert zap.poll(1000 * DEADLINE)
        version, sequence = zap.recv_multipart()[:2]
        zap.send_multipart([version, sequence, b"200", b"OK", b"anna", b"\4Role\0\0\0\5admin"])
        _, origin = receive(router, make(router))
    finally:
        for socket in (zap, router, client):
            socket.close(0)
    assert (origin.get("User-Id"), origin.get("Role"), origin.get("Peer-Address")) == (
        "anna",
        "admin",
        "127.0.0.1",
    )


def test_a_destroyed_context_is_an_error(make):
    """Somebody else may close the sockets of a context: nothing that is freed is touched."""
    context = zmq.Context()
    frames = make(context.socket(zmq.ROUTER))
    context.destroy(0)
    with pytest.raises(zmq.ZMQError) as error:
        frames.receive(64)
    assert error.value.errno == errno.ENOTSOCK


def test_a_terminated_context_is_an_error(make, context, router):
    frames = make(router)
    ends = threading.Thread(target=context.term)
    ends.start()

    def receive_on():
        while frames.receive(64) is None:
            pass

    with pytest.raises(zmq.ContextTerminated):
        receive_on()
    with pytest.raises(zmq.ContextTerminated):
        frames.readable()
    router.close(0)
    ends.join(DEADLINE)


def test_what_is_no_message_is_not_begun(make, router, dealer):
    client, frames = dealer(), make(router)
    if isinstance(frames, PureFrames):
        pytest.skip("the pure one believes its caller")
    for wrong in (
        ([b"peer", ""], 2, b""),
        ([b"peer"], 1, ""),
        ([b"peer"], 1, []),
        ([b"peer"], 1, [b"x", None]),
        ((), 1, b""),
        ([b"peer"], "1", b""),
        ([b"peer"], 1),
    ):
        with pytest.raises(TypeError):
            frames.send(*wrong)
    assert frames.send([b"peer"], 1, b"whole") == SENT
    assert client.recv_multipart() == [b"whole"]


FORKED = """
import errno, os, sys, zmq
from green_router.sockets.frames import frames_of
context = zmq.Context()
router = context.socket(zmq.ROUTER)
frames = frames_of(router, False)
pid = os.fork()
if pid == 0:
    try:
        frames.receive(64)
    except zmq.ZMQError as error:
        os._exit(0 if error.errno == errno.EINTR else 2)
    os._exit(1)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


@needs_compiled  # pyzmq tries EINTR again without end
def test_in_a_forked_child_nothing_spins():
    """There, every call of libzmq is interrupted."""
    subprocess.run([sys.executable, "-c", FORKED], check=True, timeout=4 * DEADLINE)


PYZMQ_IS_OTHER = """
import zmq, sys
{change}
from green_router.sockets.frames import IN_USE
print(IN_USE)
"""


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ("", IN_USE),
        ("import os; os.environ['GREEN_ROUTER_PURE'] = '1'", "pure (GREEN_ROUTER_PURE)"),
        (
            "sys.modules['green_router.sockets._frames'] = None",
            "pure (the compiled module was not built)",
        ),
        pytest.param(
            "zmq.zmq_version_info = lambda: (9, 9, 9)",
            "pure (a pyzmq that is not known)",
            marks=needs_compiled,
        ),
        pytest.param(
            "sys.modules[zmq.backend.Socket.__module__].__file__ = '/nowhere'",
            "pure (pyzmq's libzmq was not found)",
            marks=needs_compiled,
        ),
        pytest.param(
            "import _ctypes; "
            "sys.modules[zmq.backend.Socket.__module__].__file__ = _ctypes.__file__",
            "pure (pyzmq's libzmq was not found)",
            marks=needs_compiled,
        ),
    ],
)
def test_which_one_serves(change, says):
    """Where the compiled one cannot, Python does, and it is said why."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if name != "GREEN_ROUTER_PURE" or not change
    }
    done = subprocess.run(
        [sys.executable, "-c", PYZMQ_IS_OTHER.format(change=change)],
        env=environment,
        check=True,
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
    )
    assert done.stdout.strip() == says


def test_the_log_says_which_one_serves(serve, caplog):
    with caplog.at_level(logging.DEBUG, "green_router"):
        serve(lambda request: b"", "inproc://logged")
    assert f"frames: {IN_USE}" in caplog.messages


def test_the_pure_calls_for_a_message():
    """A frame is received once, and sent once; a receive that finds nothing is one call."""
    calls = collections.Counter()
    waiting = collections.deque([b"peer", b"", b"x"])

    class Frame:
        def __init__(self, data):
            self.bytes, self.more = data, bool(waiting)

    def recv(flags, copy=True):
        calls["bytes" if copy else "Frame"] += 1
        if not waiting:
            raise zmq.Again()
        data = waiting.popleft()
        return data if copy else Frame(data)

    frames = PureFrames(
        recv, lambda data, flags: calls.update(["send"]), False, lambda: bool(waiting)
    )
    message, _ = frames.receive(64)
    assert (message, calls) == ([b"peer", b"", b"x"], {"bytes": 1, "Frame": 2})
    frames.send(message, 2, b"y")
    assert calls["send"] == 3
    assert frames.receive(64) is None
    assert calls["bytes"] == 2


MEMORY = """
import resource, sys, gevent
from green_router import Server
from green_router.testing import running_server
import zmq
envelope, size, count = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
release, seen = gevent.event.Event(), []
def handle(request):
    seen.append(len(request.data))
    release.wait()
    return b""
server = Server(handle, envelope=envelope, max_in_flight_bytes=None)
server.bind("ipc://*")
server.start()
client = zmq.green.Context().socket(zmq.DEALER)
client.connect(server.endpoints[0])
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * resource.getpagesize()
before = resident()
body = bytes(size)
for number in range(count):
    client.send_multipart([b"", body] if envelope == "delimiter" else [body])
    while len(seen) <= number:
        gevent.sleep(0.001)
print((resident() - before) / size)
release.set()
server.stop(1)
client.close(0)
client.context.term()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.skipif(
    not KNOWS_BY_THE_FIRST,
    reason="libzmq older than 4.3.5: the body's frame tells of the connection",
)
@pytest.mark.parametrize("envelope", ["bare", "delimiter", "last"])
def test_a_request_that_waits_holds_its_body_once(envelope):
    """And the client's copy of the last one: measured as resident memory, in bodies."""
    program = [sys.executable, "-c", MEMORY, envelope, str(10_000_000), "10"]
    held = float(
        subprocess.run(
            program, check=True, capture_output=True, text=True, timeout=4 * DEADLINE
        ).stdout
    )
    assert held < 14
