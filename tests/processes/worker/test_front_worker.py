"""Less common things, in one process and in a worker behind a line: they are alike."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
import zmq

from green_router.errors import WorkerLost
from green_router.messages.ledger import ANSWERED, FAILED
from green_router.processes.channel.encoding import described
from green_router.processes.channel.protocol import Routes, call_on_error
from green_router.processes.channel.stream import Channel
from green_router.processes.worker.front_worker import FrontWorker
from green_router.settings import Settings
from green_router.testing import eventually

from ..conftest import Service, balanced

MODES = pytest.mark.parametrize("workers", ["none", "1"])


def replies(dealer: zmq.Socket[bytes], count: int) -> list[bytes]:
    """The last frames of the next replies that a client gets."""
    return [dealer.recv_multipart()[-1] for _ in range(count)]


@MODES
@pytest.mark.parametrize(
    ("policy", "sent", "got"),
    [
        ("bare", [b"x"], [b"X"]),
        ("bare", [b"", b"x"], [b"", b"X"]),
        ("last", [b"hop", b"more", b"x"], [b"hop", b"more", b"X"]),
        ("fixed:2", [b"hop", b"x", b"y"], [b"hop", b"X", b"Y"]),
        ("marker:--", [b"hop", b"--", b"x"], [b"hop", b"--", b"X"]),
        ("delimiter", [b"hop", b"", b"x", b"y"], [b"hop", b"", b"X", b"Y"]),
    ],
)
def test_envelopes(
    service: Callable[..., Service], workers: str, policy: str, sent: list[bytes], got: list[bytes]
) -> None:
    server = service(
        "def handle_request(request):\n    return [frame.upper() for frame in request.body]\n",
        "--workers",
        workers,
        "--envelope",
        policy,
    )
    dealer = server.client(zmq.DEALER)
    dealer.send_multipart(sent)
    assert dealer.recv_multipart() == got


@MODES
def test_parts_that_a_handler_sends_itself(service: Callable[..., Service], workers: str) -> None:
    """From its own greenlet, from another one, from another OS thread; and the last one is the
    reply."""
    server = service(
        """
import gevent
from gevent.threadpool import ThreadPool
pool = ThreadPool(1)

def say(request):
    for number in range(3):
        request.reply(b"%d" % number, final=False)
    request.reply(b"end")

def handle_request(request):
    if request.data == b"here":
        say(request)
    elif request.data == b"greenlet":
        gevent.spawn_later(0.01, say, request)
    else:
        pool.spawn(say, request)
""",
        "--workers",
        workers,
    )
    dealer = server.client(zmq.DEALER)
    for number, where in enumerate((b"here", b"greenlet", b"thread"), start=1):
        dealer.send_multipart([b"", where])
        assert replies(dealer, 4) == [b"0", b"1", b"2", b"end"]
        if workers != "none":
            stats = server.wait_for(
                lambda stats, number=number: stats["sum"]["fates"]["answered"] == number
            )
            assert (
                stats["sum"]["events"]["stream_items"]
                == stats["workers"][0]["stats"]["events"]["stream_items"]
                == 3 * number
            )
            assert balanced(stats)


@MODES
def test_a_deadline_inside_a_stream(service: Callable[..., Service], workers: str) -> None:
    """What has left has left; the end is on_error's."""
    server = service(
        """
import gevent
def handle_request(request):
    yield b"part"
    gevent.sleep(100)
    yield b"never"
def on_error(request, error):
    return type(error).__name__.encode()
""",
        "--workers",
        workers,
        "--handler-timeout",
        "0.3",
        "--on-error",
        "app:on_error",
    )
    dealer = server.client(zmq.DEALER)
    dealer.send_multipart([b"", b""])
    assert replies(dealer, 2) == [b"part", b"HandlerTimeout"]
    if workers != "none":
        stats = server.wait_for(lambda stats: stats["workers"][0]["stats"]["in_flight"] == 0)
        assert (
            stats["workers"][0]["stats"]["fates"]["timed_out"]
            == stats["sum"]["fates"]["timed_out"]
            == 1
        )


@MODES
def test_an_address_over_ipc(service: Callable[..., Service], tmp_path: Path, workers: str) -> None:
    server = service(
        "def handle_request(request):\n    return request.peer_address.encode()\n",
        "--workers",
        workers,
        bind=f"ipc://{tmp_path}/s",
    )
    assert server.ask(b"") == b"localhost:%d:%d:%d" % (os.getuid(), os.getgid(), os.getpid())


def test_a_user_id_behind_a_line() -> None:
    """Handlers and on_error have it, and the address; where it comes from is in
    test_dispatcher.py."""

    def told(request: Any, error: BaseException | None = None) -> bytes:
        if request.data == b"fail" and error is None:
            raise ValueError
        return f"{type(error).__name__}: {request.user_id} at {request.peer_address}".encode()

    ours, theirs = socket.socketpair()
    crashes: list[BaseException] = []
    heard: list[Any] = []
    channel = Channel(theirs.detach(), lambda batch: worker.receive(routes, batch), lambda: None)
    worker = FrontWorker(told, "told", Settings(on_error=told), channel, crashes.append)
    routes = Routes(*worker.routes)
    serving = Channel(ours.detach(), heard.extend, lambda: None)

    def sent(data: bytes) -> tuple[Any, ...]:
        return (
            2,
            monotonic(),
            [b"peer", b"", data],
            "127.0.0.1",
            {"User-Id": "somebody", "Role": None},
        )

    serving.send(
        [
            (1, *sent(b"")),
            (2, *sent(b"fail")),
            call_on_error(3, described(WorkerLost(4, "ended")), *sent(b"")),
        ]
    )
    eventually(lambda: len(heard) == 4)
    serving.close()
    channel.close()
    assert sorted(heard, key=str) == [
        ("failing", 2),
        ("on_error_ended", 3, True, b"WorkerLost: somebody at 127.0.0.1"),
        (1, ANSWERED, b"NoneType: somebody at 127.0.0.1"),
        (2, FAILED, b"ValueError: somebody at 127.0.0.1"),
    ]
    assert crashes == []


@MODES
@pytest.mark.parametrize("patch", ["--patch", "--no-patch"])
def test_patched_or_not(service: Callable[..., Service], workers: str, patch: str) -> None:
    server = service(
        """
from gevent.monkey import is_module_patched
def handle_request(request):
    return b"%d" % is_module_patched("socket")
""",
        "--workers",
        workers,
        patch,
    )
    assert server.ask(b"") == (b"1" if patch == "--patch" else b"0")


@MODES
def test_the_convention_of_the_original_loop(service: Callable[..., Service], workers: str) -> None:
    server = service(
        """
asked = []
def handle_request(request):
    client_id, data = request
    asked.append(data)
    return (client_id, b"%d" % len(asked)) if len(asked) > 3 else None
""",
        "--workers",
        workers,
        "--until-ready",
    )
    assert server.ask(b"x") == b"4"


@MODES
def test_requests_in_an_executor(service: Callable[..., Service], workers: str) -> None:
    """In another thread, and as a copy that was pickled, as for another process."""
    server = service(
        """
import pickle
from gevent.threadpool import ThreadPoolExecutor
from green_router import offload

def copied(request):
    copy = pickle.loads(pickle.dumps(request))
    same = copy.routing_id == request.routing_id
    found = copy.data, same, copy.peer_address, copy.age < 100, copy.time_left
    return repr(found).encode()

handle_request = offload(copied, ThreadPoolExecutor(2))
""",
        "--workers",
        workers,
    )
    assert server.ask(b"x") == b"(b'x', True, '127.0.0.1', True, None)"


SHAPES = """
import array, ctypes, mmap, zmq
from green_router import Reject

class Bytes(bytes):
    pass

class Proxy:
    __class__ = bytes

def mapped():
    area = mmap.mmap(-1, 5)
    area.write(b"reply")
    return area

buffers = [lambda: Bytes(b"reply"), lambda: bytearray(b"reply"),
           lambda: memoryview(b"reply"), lambda: array.array("B", b"reply"),
           lambda: (ctypes.c_char * 5)(*b"reply"), lambda: zmq.Frame(b"reply"), mapped]
ways = {
    b"alone": lambda request, make: make(),
    b"list": lambda request, make: [make(), make()],
    b"pair": lambda request, make: (Bytes(request.routing_id), make()),
    b"push": lambda request, make: (Bytes(b"me, too"), make()),
    b"reply": lambda request, make: request.reply(make()),
    b"stream": lambda request, make: iter([make()]),
    b"error": lambda request, make: 1 / 0,
}

def handle_request(request):
    way, number = request.body
    return ways[way](request, buffers[int(number)] if number != b"proxy" else Proxy)

def on_error(request, error):
    way, number = request.body
    return buffers[int(number)]() if number != b"proxy" else str(error).encode()
"""


@MODES
def test_whatever_has_a_buffer_is_a_body(service: Callable[..., Service], workers: str) -> None:
    """Bodies go over a line, and a line carries nothing but bytes; what only says that it is bytes
    fails alone."""
    server = service(SHAPES, "--workers", workers, "--on-error", "app:on_error")
    dealer = server.client(zmq.DEALER)
    other = server.context.socket(zmq.DEALER)
    other.routing_id = b"me, too"
    server.clients.append(other)
    other.linger, other.rcvtimeo = 0, dealer.rcvtimeo
    other.connect(server.endpoint)
    other.send_multipart([b"", b"alone", b"0"])
    assert other.recv_multipart() == [b"", b"reply"]
    for number in map(b"%d".__mod__, range(7)):
        for way in (b"alone", b"list", b"pair", b"reply", b"stream", b"error", b"push"):
            dealer.send_multipart([b"", way, number])
            frames = (other if way == b"push" else dealer).recv_multipart()
            assert frames == [b"", *[b"reply"] * (1 + (way == b"list"))], (way, number)
    for way in (b"alone", b"list", b"pair", b"push", b"reply", b"stream"):
        dealer.send_multipart([b"", way, b"proxy"])
        assert replies(dealer, 1)[0].startswith(b"handle_request returned Proxy: a reply is"), way


@MODES
def test_what_loops_send_is_warned_of(service: Callable[..., Service], workers: str) -> None:
    """A list with an envelope, where the handler runs; a pair for nobody, where the clients are."""
    server = service(
        """
def handle_request(request):
    return (b"OK", b"payload") if request.data == b"pair" else [request.routing_id, request.data]
""",
        "--workers",
        workers,
    )
    dealer = server.client(zmq.DEALER)
    for word in (b"pair", b"pair", b"list", b"list"):
        dealer.send_multipart([b"", word])
    assert replies(dealer, 2) == [b"list", b"list"]
    said = [
        server.running.err.until("returned a tuple of two", "gave a list that begins")
        for _ in range(2)
    ]
    assert sorted("handle_request returned a tuple of two" in line for line in said) == [
        False,
        True,
    ], said
    rest = server.stop() if workers != "none" else []
    assert not [line for line in rest if line not in said and "handle_request" in line]


BUSY = """
import gevent
def handle_request(request):
    if request.data == b"slow":
        gevent.sleep(100)
    return request.data
"""


@MODES
def test_too_many_are_refused(service: Callable[..., Service], workers: str) -> None:
    """A limit counts what workers have in hand, as it counts what handlers have."""
    server = service(
        BUSY,
        "--workers",
        workers,
        "--overload",
        "refuse",
        "--max-in-flight",
        "2",
        "--busy-reply",
        "busy",
    )
    dealer = server.client(zmq.DEALER)
    for word in (b"slow", b"slow", b"x"):
        dealer.send_multipart([b"", word])
    assert replies(dealer, 1) == [b"busy"]


@MODES
def test_too_many_of_one_peer_are_refused(service: Callable[..., Service], workers: str) -> None:
    server = service(
        BUSY,
        "--workers",
        workers,
        "--overload",
        "refuse",
        "--max-in-flight-per-peer",
        "1",
        "--busy-reply",
        "busy",
    )
    dealer = server.client(zmq.DEALER)
    for word in (b"slow", b"x"):
        dealer.send_multipart([b"", word])
    assert replies(dealer, 1) == [b"busy"]
    assert server.ask(b"x") == b"x"


def test_an_on_error_that_raises_is_counted(service: Callable[..., Service]) -> None:
    """For a request that fails in its worker, and for one whose worker dies; the client gets
    nothing, others do."""
    server = service(
        """
import os
def handle_request(request):
    if request.data == b"die":
        os._exit(3)
    return 1 / len(request.data)
def on_error(request, error):
    raise RuntimeError("broken too")
""",
        "--workers",
        "2",
        "--on-error",
        "app:on_error",
    )
    for count, word in enumerate((b"", b"die"), start=1):
        server.client(zmq.DEALER).send_multipart([b"", word])
        stats = server.wait_for(lambda stats, count=count: stats["sum"]["fates"]["failed"] == count)
        assert stats["sum"]["events"]["callback_errors"] == count
        assert balanced(stats)
    server.running.err.until("RuntimeError: broken too")


PUSHING = """
import gevent
from green_router import send
known = set()

def push():
    while not known:
        gevent.sleep(0.01)
    send(*known, b"a greenlet that the import has started")

def handle_request(request):
    known.add(request.routing_id)
    gevent.get_hub().threadpool.spawn(send, request.routing_id, b"an OS thread", b"of its own")
    send(request.routing_id, b"a handler")
    return b"reply"

gevent.spawn(push)
"""


@pytest.mark.parametrize(
    "options",
    [(), ("--workers", "1"), ("--workers", "1", "--dispatch", "direct")],
    ids=["one process", "front", "direct"],
)
def test_an_application_pushes_without_a_server_at_hand(
    service: Callable[..., Service], options: tuple[str, ...]
) -> None:
    server = service(PUSHING, *options)
    dealer = server.client(zmq.DEALER)
    dealer.send_multipart([b"", b"x"])
    assert sorted(dealer.recv_multipart()[1:] for _ in range(4)) == sorted(
        [
            [b"a handler"],
            [b"reply"],
            [b"a greenlet that the import has started"],
            [b"an OS thread", b"of its own"],
        ]
    )


WORDLESS = """
import logging, os
from green_router import Reject

class Wordless(Exception):
    def __str__(self):
        raise ValueError
    __repr__ = __str__

def refuse(record):
    raise RecursionError
for name in ("handlers", "server", "worker"):
    logging.getLogger("green_router." + name).addFilter(refuse)

def handle_request(request):
    if request.data == b"fail":
        raise Wordless
    return b"%d" % os.getpid()

def on_error(request, error):
    raise Wordless
"""


@pytest.mark.parametrize(
    "options",
    [(), ("--workers", "1"), ("--workers", "1", "--dispatch", "direct")],
    ids=["one process", "front", "direct"],
)
def test_an_error_that_cannot_be_logged_ends_nobody(
    service: Callable[..., Service], options: tuple[str, ...]
) -> None:
    server = service(WORDLESS, "--on-error", "app:on_error", *options)
    pid = server.ask(b"")
    for _ in range(3):
        server.client().send(b"fail")
        assert server.ask(b"") == pid
    server.stop()


ASKED = """
import os
import gevent
asked = []
def handle_request(request):
    if request.data == b"fail":
        gevent.sleep(0.3)
        raise ValueError
    if request.data == b"hang":
        raise ValueError
    if request.data == b"late":
        gevent.sleep(3600)
    return b"%d" % len(asked)

def on_error(request, error):
    asked.append(type(error).__name__)
    gevent.sleep(0.3 if request.data == b"fail" else 3600)
    return " ".join(asked).encode()
"""

EVERYWHERE = pytest.mark.parametrize(
    "options",
    [(), ("--workers", "1"), ("--workers", "1", "--dispatch", "direct")],
    ids=["one process", "front", "direct"],
)


@EVERYWHERE
def test_on_error_is_asked_once_for_a_request(
    service: Callable[..., Service], options: tuple[str, ...]
) -> None:
    """Not for its failure and then for its timeout, which has passed meanwhile."""
    server = service(ASKED, "--on-error", "app:on_error", "--handler-timeout", "0.5", *options)
    assert server.ask(b"fail") == b"ValueError"
    assert server.ask(b"how often") == b"1"
    if options:
        stats = server.wait_for(lambda stats: stats["sum"]["fates"]["answered"] == 1)
        assert stats["sum"]["fates"]["failed"] == 1
        assert stats["sum"]["events"]["late"] == 0
        assert balanced(stats)


def test_an_on_error_that_is_lost_with_its_worker_is_asked_again(
    service: Callable[..., Service],
) -> None:
    """In the next one, and with that: its handler has failed, so retry_lost does not make it run
    again."""
    server = service(
        """
import os, signal
def handle_request(request):
    raise ValueError

def on_error(request, error):
    if isinstance(error, ValueError):
        os.kill(os.getpid(), signal.SIGKILL)
    return type(error).__name__.encode()
""",
        "--on-error",
        "app:on_error",
        "--handler-timeout",
        "60",
        "--retry-lost",
        "1",
        "--workers",
        "1",
    )
    assert server.ask(b"x") == b"WorkerLost"
    stats = server.wait_for(lambda stats: stats["sum"]["fates"]["failed"] == 1)
    assert (stats["sum"]["events"]["lost"], stats["sum"]["events"]["retried"]) == (1, 0)
    assert balanced(stats)


@EVERYWHERE
@pytest.mark.parametrize(("data", "fate"), [(b"hang", "failed"), (b"late", "timed_out")])
def test_an_on_error_that_never_returns_takes_no_place(
    service: Callable[..., Service], options: tuple[str, ...], data: bytes, fate: str
) -> None:
    server = service(
        ASKED,
        "--on-error",
        "app:on_error",
        "--handler-timeout",
        "0.2",
        "--max-in-flight",
        "2",
        *options,
    )
    dealer = server.client(zmq.DEALER)
    for _ in range(6):
        dealer.send_multipart([b"", data])
    dealer.send_multipart([b"", b"how often"])
    assert dealer.recv_multipart() == [b"", b"6"]
    if options:
        stats = server.wait_for(
            lambda stats: stats["sum"]["fates"]["answered"] + stats["sum"]["fates"][fate] == 7
        )
        assert (stats["sum"]["fates"][fate], stats["sum"]["events"]["callback_errors"]) == (6, 6)
        assert balanced(stats)
