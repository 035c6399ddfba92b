"""The programs of ``green-router demo``: handlers, the loop that used to serve them, and a client.

Rules of this file
  1. It is run as a plain script and needs nothing but pyzmq: the loop and the clients know nothing of green_router.
  2. handle_request is what the loop calls and what ``green-router serve --until-ready`` serves. wait_and_reply gives
     the same replies at the same time, written as one writes it when nothing polls any more.
  3. A request begins with the microseconds that its reply takes, in nine digits; its reply is the request reversed.
"""
from __future__ import annotations

import json
import random
import sys
import time
from collections.abc import Iterable

import zmq

SHORT_POLL, LONG_POLL = 1, 1000
"""Milliseconds that the loop polls while a request is pending, and while none is. With 1 ms a finished reply waits
half a millisecond on average for the next pass; longer would cost less CPU, and every reply would be later."""

PATIENCE = 10.0
"""Seconds beyond the handler's time after which a client takes its reply for lost."""

_ready_at: dict[bytes, float] = {}


def handle_request(request: Iterable[bytes]) -> tuple[bytes, bytes] | None:
    """Reply when it is time; until then None, "not ready"."""
    client_id, data = request
    now = time.monotonic()
    if client_id not in _ready_at:
        _ready_at[client_id] = now + int(data[:9]) / 1e6
    if now < _ready_at[client_id]:
        return None
    del _ready_at[client_id]
    return client_id, data[::-1]


def wait_and_reply(request: Iterable[bytes]) -> tuple[bytes, bytes]:
    """Wait until it is time, then reply; in a greenlet, other requests go on meanwhile."""
    client_id, data = request
    time.sleep(int(data[:9]) / 1e6)
    return client_id, data[::-1]


def original_loop(endpoint: str) -> None:
    """Serve as the poll loop does: ask every pending request again on each pass."""
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(endpoint)
    print("serving on", router.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)
    poller = zmq.Poller()
    poller.register(router, zmq.POLLIN)
    requests: list[tuple[bytes, bytes]] = []
    replies: list[tuple[bytes, bytes]] = []
    while True:
        socks = dict(poller.poll(SHORT_POLL if requests else LONG_POLL))
        if socks.get(router) == zmq.POLLIN:
            client_id = router.recv()
            _ = router.recv()
            data = router.recv()
            requests.append((client_id, data))
        for req in list(requests):
            rep = handle_request(req)
            if rep:
                replies.append(rep)
                requests.remove(req)
        for client_id, data in replies:
            router.send(client_id, zmq.SNDMORE)
            router.send(b"", zmq.SNDMORE)
            router.send(data)
        del replies[:]


def client(number: int) -> None:
    """Send requests one after the other, as told by lines on standard input: ``ENDPOINT SECONDS SHORTEST LONGEST``.

    For SECONDS, one request at least; its reply takes SHORTEST to LONGEST seconds. Then it prints a line of JSON: the
    microseconds by which each reply came later than the handler had it, how many were wrong, and whether one was lost.
    It stays connected until the next line.
    """
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    socket = context.socket(zmq.REQ)
    draw = random.Random(number)
    connected = ""
    for line in sys.stdin:
        endpoint, *numbers = line.split()
        seconds, shortest, longest = map(float, numbers)
        if endpoint != connected:
            socket.close(linger=0)
            socket = context.socket(zmq.REQ)
            socket.connect(endpoint)
            connected = endpoint
            draw.seed(number)
        socket.setsockopt(zmq.RCVTIMEO, round(1000 * (longest + PATIENCE)))
        added: list[int] = []
        wrong = lost = 0
        end = time.monotonic() + seconds
        while not added or time.monotonic() < end:
            delay = round(1e6 * draw.uniform(shortest, longest))
            data = b"%09d client %d request %d" % (delay, number, len(added))
            sent = time.monotonic()
            socket.send(data)
            try:
                reply = socket.recv()
            except zmq.Again:
                lost, connected = 1, ""
                break
            added.append(round((time.monotonic() - sent) * 1e6) - delay)
            wrong += reply != data[::-1]
        print(json.dumps({"added": added, "wrong": wrong, "lost": lost}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "original":
        original_loop(sys.argv[2])
    else:
        client(int(sys.argv[2]))
