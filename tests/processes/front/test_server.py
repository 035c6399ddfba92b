"""``serve --workers N``: a worker is just another place where handlers run. What works in one
process works there."""

from __future__ import annotations

import os
import re
import signal
import time
from collections.abc import Callable

import pytest
import zmq
from command_line import CommandLine

from ..conftest import Service, balanced, gone, workers_of

EVERYTHING = """
import os, signal, threading, time
import gevent
from concurrent.futures import ThreadPoolExecutor
from gevent.threadpool import ThreadPool
from green_router import Reject

kept = []
pool = ThreadPool(4)

def handle_request(request):
    return globals()[request.data.decode()](request)

def data(request): return request.body[1]
def several(request): return [b"a", b"b"]
def pair(request): return request.routing_id, request.body[1]
def stream(request): return (b"%d" % number for number in range(3))
def later(request): gevent.spawn_later(0.01, request.reply, b"later")
def keep(request): kept.append(request)
def kept_one(request):
    kept.pop().reply(b"for the other")
    return b"done"
def thread(request): pool.spawn(request.reply, b"from a thread")
def future(request):
    result = gevent.event.AsyncResult()
    gevent.spawn_later(0.01, result.set, b"future")
    return result
def push(request): return request.body[1], b"pushed"
def reject(request): raise Reject(b"no", b"thanks")
def fail(request): raise ValueError("broken")
def text(request): return "text"
def slow(request): gevent.sleep(100)
def blocked(request):
    signal.pthread_sigmask(signal.SIG_BLOCK, [])
    until = time.monotonic() + 3
    while time.monotonic() < until: pass
    return b"too late"
def address(request): return repr((request.peer_address, request.user_id)).encode()
def pid(request): return b"%d" % os.getpid()
def die(request): os.kill(os.getpid(), signal.SIGKILL)
def leave(request): raise SystemExit(5)
def drop(request): return None
def twice(request):
    request.reply(b"first")
    try: request.reply(b"second")
    except Exception as error: return None
def time_left(request): return b"%.1f" % (request.time_left or -1)
def age(request): return b"%d" % (request.age * 1000)
def large(request): return bytes(20_000_000)

def on_error(request, error):
    return [type(error).__name__.encode(), str(error).encode(), b"%d" % os.getpid()]
"""

MODES = pytest.mark.parametrize("workers", ["none", "1", "2"])


def exchange(client: zmq.Socket[bytes], *frames: bytes) -> list[bytes]:
    client.send_multipart(frames)
    return client.recv_multipart()


@MODES
def test_everything_that_a_handler_may_do(service: Callable[..., Service], workers: str) -> None:
    server = service(
        EVERYTHING, "--workers", workers, "--on-error", "app:on_error", "--handler-timeout", "20"
    )
    req = server.client()
    assert exchange(req, b"data", b"x" * 100) == [b"x" * 100]
    assert exchange(req, b"several") == [b"a", b"b"]
    assert exchange(req, b"pair", b"p") == [b"p"]
    assert exchange(req, b"later") == [b"later"]
    assert exchange(req, b"thread") == [b"from a thread"]
    assert exchange(req, b"future") == [b"future"]
    assert exchange(req, b"reject") == [b"no", b"thanks"]
    assert exchange(req, b"fail")[:2] == [b"ValueError", b"broken"]
    assert exchange(req, b"text")[0] == b"BadReply"
    assert exchange(req, b"twice") == [b"first"]
    assert exchange(req, b"address") == [b"('127.0.0.1', None)"]
    assert 18 <= float(exchange(req, b"time_left")[0]) <= 20
    assert int(exchange(req, b"age")[0]) < 5000
    assert len(exchange(req, b"large")[0]) == 20_000_000
    assert exchange(req, b"data", bytes(10_000_000)) == [bytes(10_000_000)]


def test_fates_are_counted_once(service: Callable[..., Service]) -> None:
    server = service(EVERYTHING, "--workers", "2", "--on-error", "app:on_error")
    req, dealer = server.client(), server.client(zmq.DEALER)
    for name in (b"several", b"reject", b"fail", b"text"):
        exchange(req, name)
    dealer.send_multipart([b"", b"drop"])
    dealer.send_multipart([b"", b"stream"])
    assert [dealer.recv_multipart() for _ in range(3)] == [[b"", b"0"], [b"", b"1"], [b"", b"2"]]
    stats = server.wait_for(lambda stats: stats["sum"]["in_flight"] == 0)
    assert {fate: number for fate, number in stats["sum"]["fates"].items() if number} == {
        "answered": 2,
        "rejected": 1,
        "failed": 2,
        "no_reply": 1,
    }
    assert stats["sum"]["events"]["stream_items"] == 3
    assert sum(row["stats"]["received"] for row in stats["workers"]) == 6
    assert balanced(stats)


def test_pushes_and_replies_for_others(service: Callable[..., Service]) -> None:
    server = service(EVERYTHING, "--workers", "1")
    waits, asks = server.client(zmq.DEALER), server.client()
    waits.setsockopt(zmq.IDENTITY, b"waits")
    waits.disconnect(server.endpoint)
    waits.connect(server.endpoint)
    waits.send_multipart([b"", b"keep"])
    server.wait_for(lambda stats: stats["sum"]["in_flight"] == 1)
    assert exchange(asks, b"kept_one") == [b"done"]
    assert waits.recv_multipart() == [b"", b"for the other"]
    asks.send_multipart([b"push", b"waits"])
    assert waits.recv_multipart() == [b"", b"pushed"]


def test_a_stream_waits_for_its_peer(service: Callable[..., Service]) -> None:
    server = service(
        """
def handle_request(request):
    with open("parts", "a") as file:
        for number in range(2000):
            print(number, file=file, flush=True)
            yield bytes(10_000)
""",
        "--workers",
        "1",
        "--send-high-water-mark",
        "10",
    )
    dealer = server.client(zmq.DEALER)
    dealer.setsockopt(zmq.RCVHWM, 10)
    dealer.disconnect(server.endpoint)
    dealer.connect(server.endpoint)
    dealer.send_multipart([b"", b""])
    server.wait_for(lambda stats: stats["sum"]["parked"] > 0)
    assert len((server.line.directory / "parts").read_text().splitlines()) < 2000
    assert all(dealer.recv_multipart() == [b"", bytes(10_000)] for _ in range(2000))
    server.wait_for(lambda stats: stats["sum"]["fates"]["answered"] == 1)


def test_a_deadline_holds_where_a_loop_is_blocked(service: Callable[..., Service]) -> None:
    server = service(
        EVERYTHING, "--workers", "2", "--on-error", "app:on_error", "--handler-timeout", "0.3"
    )
    req = server.client()
    for name in (b"slow", b"blocked"):
        started = time.monotonic()
        kind, words, _ = exchange(req, name)
        assert (kind, words) == (b"HandlerTimeout", b"no reply after 0.3 s (handler_timeout)")
        assert 0.29 < time.monotonic() - started < 2
    stats = server.wait_for(lambda stats: stats["sum"]["events"]["late"] == 1)
    assert stats["sum"]["fates"]["timed_out"] == 2
    assert balanced(stats)


def test_a_deadline_holds_for_what_waits(service: Callable[..., Service]) -> None:
    server = service(
        EVERYTHING,
        "--workers",
        "1",
        "--on-error",
        "app:on_error",
        "--handler-timeout",
        "0.5",
        "--worker-window",
        "1",
    )
    dealer = server.client(zmq.DEALER)
    for _ in range(3):
        dealer.send_multipart([b"", b"slow"])
    assert [dealer.recv_multipart()[1] for _ in range(3)] == [b"HandlerTimeout"] * 3
    assert server.ask(b"several") == b"a"
    assert balanced(server.stats())


def test_the_least_busy_worker_gets_the_next(service: Callable[..., Service]) -> None:
    server = service(EVERYTHING, "--workers", "2")
    held = server.client(zmq.DEALER)
    held.send_multipart([b"", b"slow"])
    server.wait_for(lambda stats: stats["sum"]["in_flight"] == 1)
    assert len({server.ask(b"pid") for _ in range(10)}) == 1


def test_the_window_bounds_what_a_worker_has(service: Callable[..., Service]) -> None:
    server = service(EVERYTHING, "--workers", "2", "--worker-window", "3")
    dealer = server.client(zmq.DEALER)
    for _ in range(10):
        dealer.send_multipart([b"", b"slow"])
    stats = server.wait_for(
        lambda stats: (stats["sum"]["in_flight"], stats["sum"]["waiting"]) == (6, 4)
    )
    assert [row["stats"]["in_flight"] for row in stats["workers"]] == [3, 3]


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_lost_worker_is_told_to_on_error(service: Callable[..., Service], workers: str) -> None:
    server = service(EVERYTHING, "--workers", workers, "--on-error", "app:on_error")
    req = server.client()
    kind, words, pid = exchange(req, b"die")
    assert kind == b"WorkerLost"
    assert b"was killed by SIGKILL" in words
    assert int(pid) != int(re.search(rb"\d+", words)[0])
    assert exchange(req, b"data", b"x") == [b"x"]
    stats = server.wait_for(
        lambda stats: (
            len([row for row in stats["workers"] if row["state"] == "ready"]) == int(workers)
        )
    )
    assert stats["sum"]["fates"]["failed"] == 1
    assert balanced(stats)


def test_a_lost_request_is_tried_again(service: Callable[..., Service]) -> None:
    server = service(
        """
import os
def handle_request(request):
    try:
        os.mkdir("tried")
    except FileExistsError:
        return b"the second time"
    os._exit(3)
""",
        "--workers",
        "2",
        "--retry-lost",
        "1",
    )
    assert server.ask(b"x") == b"the second time"
    stats = server.stats()
    assert stats["sum"]["fates"]["answered"] == stats["sum"]["received"] == 1
    assert (stats["sum"]["events"]["lost"], stats["sum"]["events"]["retried"]) == (1, 1)
    assert b"retried" in server.line.run("stats").stdout
    assert "ended with exit code 3" in server.running.err.until("ended with exit code")


def test_a_stream_that_was_cut_is_not_tried_again(service: Callable[..., Service]) -> None:
    server = service(
        """
import os, gevent
def handle_request(request):
    with open("begun", "a") as file:
        file.write("x")
    yield b"1"
    yield b"2"
    while not os.path.exists("die"):
        gevent.sleep(0.01)
    os._exit(3)
def on_error(request, error):
    return type(error).__name__.encode()
""",
        "--workers",
        "2",
        "--retry-lost",
        "1",
        "--on-error",
        "app:on_error",
    )
    dealer = server.client(zmq.DEALER)
    dealer.send_multipart([b"", b""])
    assert [dealer.recv_multipart()[-1] for _ in range(2)] == [b"1", b"2"]
    server.line.write("die", "")
    assert dealer.recv_multipart()[-1] == b"WorkerLost"
    assert (server.line.directory / "begun").read_text() == "x"
    stats = server.stats()
    assert (stats["sum"]["events"]["lost"], stats["sum"]["events"]["retried"]) == (1, 0)


def test_a_request_that_kills_is_given_up(service: Callable[..., Service]) -> None:
    server = service(
        EVERYTHING, "--workers", "2", "--retry-lost", "1", "--on-error", "app:on_error"
    )
    assert exchange(server.client(), b"die")[0] == b"WorkerLost"
    stats = server.wait_for(lambda stats: sum(row["deaths"] for row in stats["workers"]) == 2)
    assert stats["sum"]["fates"]["failed"] == 1


def test_a_handler_that_leaves_ends_its_worker_alone(service: Callable[..., Service]) -> None:
    server = service(EVERYTHING, "--workers", "1", "--on-error", "app:on_error")
    assert exchange(server.client(), b"leave")[0] == b"SystemExit"
    server.running.err.until("ended with exit code 5")
    assert server.ask(b"several") == b"a"


LEAVES = """
import logging, time
class Slow(logging.Handler):
    def emit(self, record):
        until = time.monotonic() + 0.02     # longer than a turn: what comes next is put off
        while time.monotonic() < until: pass
logging.getLogger().addHandler(Slow())
def handle_request(request): raise SystemExit(5)
def on_error(request, error): return type(error).__name__.encode()
"""


def test_on_error_answers_for_the_handler_that_ends_its_worker(
    service: Callable[..., Service],
) -> None:
    server = service(LEAVES, "--workers", "1", "--on-error", "app:on_error")
    assert server.ask(b"") == b"SystemExit"


def test_no_worker_outlives_its_supervisor(service: Callable[..., Service]) -> None:
    server = service(EVERYTHING, "--workers", "2")
    pids = workers_of(server.pid)
    assert len(pids) == 2
    server.client(zmq.DEALER).send_multipart([b"", b"blocked"])
    server.wait_for(lambda stats: stats["sum"]["in_flight"] == 1)
    os.kill(server.pid, signal.SIGKILL)
    assert gone(pids)


def test_sigterm_answers_what_was_taken(service: Callable[..., Service]) -> None:
    server = service(
        """
import gevent
def handle_request(request):
    gevent.sleep(0.5)
    return request.data
""",
        "--workers",
        "2",
        "--worker-window",
        "5",
    )
    dealer = server.client(zmq.DEALER)
    for number in range(30):
        dealer.send_multipart([b"", b"%d" % number])
    server.wait_for(lambda stats: stats["sum"]["received"] == 30)
    server.stop()
    assert sorted(int(dealer.recv_multipart()[1]) for _ in range(30)) == list(range(30))


@pytest.mark.parametrize(
    ("application", "code", "words"),
    [
        ("raise RuntimeError('no database')", 4, "app was found, but is broken inside"),
        (
            "import os; os._exit(9)",
            4,
            "the worker ended with exit code 9 while it loaded app:handle_request",
        ),
        ("nothing = 1", 4, "app has no attribute handle_request"),
    ],
)
def test_boot_errors_end_the_whole(
    command_line: CommandLine, application: str, code: int, words: str
) -> None:
    command_line.write("app.py", application)
    for dispatch in ("front", "direct"):
        done = command_line.run(
            "serve",
            "app:handle_request",
            "--workers",
            "2",
            "--bind",
            "tcp://127.0.0.1:0",
            "--dispatch",
            dispatch,
        )
        assert words in done.stderr.decode()
        assert (done.returncode, done.stdout) == (code, b"")
