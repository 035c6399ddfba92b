"""A server that does what its requests say, for scenarios that need it in a process of its own.

Usage: obedient_server.py SETTINGS ENDPOINT...

SETTINGS are those of ``Server`` as JSON. A request's first frame is a verb and its arguments,
separated by spaces; what is no verb is sent back. The endpoints are the first line of standard
output; then each line of standard input is a question, answered by one line of JSON: see
``ANSWERS``. SIGTERM drains it; its last line is then what became of every message.
"""

from __future__ import annotations

import ctypes
import gc
import json
import logging
import sys

# That of the standard library, patched or not: it waits in its OS thread.
from _queue import SimpleQueue
from collections import deque
from contextlib import suppress
from random import choice, randbytes
from time import monotonic, thread_time, time

import gevent
from gevent.event import AsyncResult, Event
from gevent.monkey import get_original

from green_router import AlreadyReplied, Reject, Server
from green_router.testing.running import whereabouts

start_new_thread = get_original("_thread", "start_new_thread")
sleep = get_original("time", "sleep")

THREADS = 16
LINES_KEPT = 20_000

server: Server
kept: list[object] = []
released = Event()
lines: list[str] = []
gaps = {"longest": 0.0, "count": 0, "ticking": False}
boxes: list[SimpleQueue] = []
pools: list[object] = []
going_on = 0
"""How many stubborn handlers there are: their requests have their fate, they are still here."""
pushed_to: deque[bytes] = deque(maxlen=100)


def spin(seconds: float) -> None:
    until = monotonic() + seconds
    while monotonic() < until:
        pass


def compute(seconds: float) -> None:
    """For so much of a processor's time, however long it takes to get it."""
    until = thread_time() + seconds
    while thread_time() < until:
        pass


def stubborn(how: str) -> bytes:
    """Refuses to be ended, and goes on when it is told to: for minutes, or ``briefly``, for
    seconds."""
    global going_on
    going_on += 1
    try:
        for _ in range(3):
            try:
                gevent.sleep(3 if how == "briefly" else 60)
            except BaseException:
                if how in ("sleep", "briefly"):
                    gevent.sleep(0.1)
                elif how == "swallow":
                    continue
                else:
                    spin(0.03)
    finally:
        going_on -= 1
    return b"too late"


def work(requests) -> None:
    """THREAD. Reply with the time, after a pause, so that the hub has nothing else to do."""
    while True:
        request = requests.get()
        sleep(0.002)
        with suppress(AlreadyReplied):  # its deadline has passed
            request.reply(b"%.6f" % time())
        del request


def in_thread(request, number: int) -> None:
    if not boxes:
        for _ in range(THREADS):
            boxes.append(SimpleQueue())
            start_new_thread(work, (boxes[-1],))
    boxes[number % THREADS].put(request)


def in_pool(request, seconds: float, how: bytes):
    """A future of the standard library."""
    if not pools:
        from concurrent.futures import ThreadPoolExecutor  # here: most scenarios have no need of it

        pools.append(ThreadPoolExecutor(THREADS))

    def result():
        sleep(seconds)
        if how == b"fail":
            raise ValueError(randbytes(3).hex())
        return request.body

    return pools[0].submit(result)


def later(request, seconds: float) -> AsyncResult:
    """A future of gevent's; nothing waits for it but the hub."""
    result: AsyncResult = AsyncResult()
    gevent.spawn_later(seconds, result.set, request.body)
    return result


def push(request, to: bytes):
    """To the one who asks, or to one who has asked so, and may have gone."""
    server.send(choice(pushed_to) if to == b"gone" and pushed_to else request.routing_id, b"pushed")
    if request.routing_id not in pushed_to:
        pushed_to.append(request.routing_id)
    return request.body


def stream(count: int, size: int):
    for number in range(count):
        yield [b"%d" % number, b"x" * size]


def handle(request):
    verb, *words = request.data.split(b" ")
    if verb == b"size":  # size BYTES [SECONDS NUMBER]: a reply of that size, after NUMBER * SECONDS
        if len(words) > 2:
            gevent.sleep(float(words[1]) * int(words[2]))
        return [request.data, b"x" * int(words[0])]
    if verb == b"sleep":
        gevent.sleep(float(words[0]))
    elif verb == b"keep":
        kept.append(request)
        return None
    elif verb == b"thread":
        return in_thread(request, int(words[0]))
    elif verb == b"future":  # future SECONDS [fail]
        return in_pool(request, float(words[0]), words[1] if words[1:] else b"")
    elif verb == b"later":
        return later(request, float(words[0]))
    elif verb == b"push":  # push [gone]
        return push(request, words[0] if words else b"")
    elif verb == b"spin":
        spin(float(words[0]))
    elif verb == b"compute":
        compute(float(words[0]))
    elif verb == b"blurt":  # blurt SECONDS SECONDS: the reply, then a wait, then a block
        request.reply(b"early")
        gevent.sleep(float(words[0]))
        return spin(float(words[1]))
    elif verb == b"stubborn":
        return stubborn(words[0].decode())
    elif verb == b"stream":
        return stream(*map(int, words))
    elif verb == b"fail":
        raise ValueError(randbytes(3).hex())
    elif verb == b"silence":
        return None
    elif verb == b"text":
        return "no reply"
    elif verb == b"as":  # as WAY BYTES: a reply of that size, or several, given in that way
        return WAYS[words[0].decode().replace("-", " ")](request, int(words[1]))
    return request.body


def reject(request, size: int):
    raise Reject(bytes(size))


def fail(request, size: int):
    raise ValueError(size)


def push_alone(request, size: int) -> bytes:
    server.send(request.routing_id, bytes(size))
    return b""


def keep(request, size: int) -> None:
    kept.append(request)


WAYS = {
    "bytes": lambda request, size: bytes(size),
    "list": lambda request, size: [bytes(size // 2), bytes(size // 2)],
    "pair": lambda request, size: (request.routing_id, bytes(size)),
    "reply": lambda request, size: request.reply(bytes(size)),
    "greenlet": lambda request, size: gevent.spawn(request.reply, bytes(size)) and None,
    "thread": lambda request, size: (
        gevent.get_hub().threadpool.spawn(request.reply, bytes(size)) and None
    ),
    "future": lambda request, size: gevent.get_hub().threadpool.spawn(bytes, size),
    "stream": lambda request, size: (bytes(size) for _ in range(3)),
    "stream of small items": lambda request, size: (b"x" for _ in range(5)),
    "stream by reply": lambda request, size: (
        [request.reply(bytes(size), more=True) for _ in range(3)] and b""
    ),
    "push": push_alone,
    "reject": reject,
    "on_error": fail,
    "kept": keep,
    "wait": lambda request, size: released.wait() and b"",
}
"""In which ways a reply can be given, or not yet. Names of several words are written with a hyphen
in their place."""


def explain(request, error):
    if error.args and isinstance(error.args[0], int):
        return bytes(error.args[0])
    return type(error).__name__.encode()


class Lines(logging.Handler):
    """Keeps what is logged, the last of it."""

    def emit(self, record: logging.LogRecord) -> None:
        lines.append(f"{record.levelname} {record.getMessage()}")
        if len(lines) > 2 * LINES_KEPT:
            del lines[:LINES_KEPT]


def tick() -> None:
    """How long the loop stands still at the longest: a greenlet that wants to run every 5 ms."""
    gaps.update(longest=0.0, count=0, ticking=True)
    last = monotonic()
    while gaps["ticking"]:
        gevent.sleep(0.005)
        now = monotonic()
        gaps["longest"] = max(gaps["longest"], now - last - 0.005)
        gaps["count"] += 1
        last = now


def stop_ticking() -> dict[str, object]:
    gaps["ticking"] = False
    return gaps


def stats() -> dict[str, object]:
    gc.collect()
    owner = server._owner
    return server.stats() | {
        "where": whereabouts(server),
        "peers": len(owner._admission._peers or ()) if owner._admission is not None else 0,
        "deferred": len(server._in_flight._deferred),
        "stubborn": going_on,
        "full": owner.overload.full,
        "timers": gevent.get_hub().loop.activecnt
        if hasattr(gevent.get_hub().loop, "activecnt")
        else 0,
    }


def release() -> None:
    """Let go of what is kept, and let those who wait go on."""
    kept.clear()
    released.set()
    released.clear()


class MallInfo(ctypes.Structure):
    """mallinfo2(3)."""

    _fields_ = [
        (name, ctypes.c_size_t)
        for name in (
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        )
    ]


def memory() -> dict[str, int]:
    """Give back what is free; then what is still used of the C heap, in bytes, and the number of
    Python's blocks."""
    gc.collect()
    used = 0
    with suppress(AttributeError):  # glibc alone has them, mallinfo2 since 2.33
        libc = ctypes.CDLL(None)
        libc.malloc_trim(0)
        libc.mallinfo2.restype = MallInfo
        info = libc.mallinfo2()
        used = info.uordblks + info.hblkhd
    return {"heap": used, "blocks": sys.getallocatedblocks()}


ANSWERS = {
    "stats": stats,
    "memory": memory,
    "lines": lambda: lines,
    "forget": lambda: lines.clear(),
    "tick": lambda: gevent.spawn(tick) and None,
    "gap": stop_ticking,
    "release": release,
    "answer": lambda: [request.reply(b"kept") for request in kept if not request.replied] and None,
}


def answer(question: str) -> None:
    print(json.dumps(ANSWERS[question]()), flush=True)


def read_questions(loop) -> None:
    """THREAD. It sleeps in read(2), so that it costs the idle server no wake-up."""
    for line in sys.stdin:
        loop.run_callback_threadsafe(gevent.spawn, answer, line.strip())


if __name__ == "__main__":
    logging.basicConfig(handlers=[Lines()], level=logging.INFO)
    settings = json.loads(sys.argv[1])
    if settings.pop("explain", False):
        settings["on_error"] = explain
    if "busy_reply" in settings:
        settings["busy_reply"] = settings["busy_reply"].encode()
    server = Server(handle, **settings)
    server.bind(*sys.argv[2:])
    server.start()
    print(json.dumps(server.endpoints), flush=True)
    start_new_thread(read_questions, (gevent.get_hub().loop,))
    server.serve_forever()
    print(json.dumps(stats()), flush=True)
