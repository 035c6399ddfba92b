"""Clients that interleave requests and replies of mixed size, so that edges come in every order.

Usage: interleaved.py ENDPOINT CLIENTS REQUESTS SEED

Each client sends and receives bursts of random length, of requests of random size, with pauses of
random length (most of them none). Now and then all stop, until nothing is owed: then no later
message can wake a server that has missed one. If nothing comes for a second although something is
owed, that is a missed wake-up, and one more request ends it. The last line is JSON: how many were
sent, how many replies came, how many of them were errors, the longest that one took, how many took
a second, and how many wake-ups were missed in how many such stops.
"""

from __future__ import annotations

import json
import random
import sys
import time

import zmq

LATE_SECONDS = 1.0

MOST_IN_VAIN = 20
"""Wake-ups missed one after the other, before these clients give up."""

STOPS = 0.03
"""The share of bursts after which all stop."""

MOST_OWED = 100
"""Few enough that a reply which is late has not just stood in a queue."""

endpoint, clients, requests, seed = sys.argv[1], *map(int, sys.argv[2:5])
pick = random.Random(seed)
SIZES = [0, 1, 33, 34, 255, 256, 1000, 8192, 8193, 65536]
BODIES = [b"x" * size for size in SIZES]
VERBS = [
    b"echo",
    b"echo",
    b"echo",
    b"echo",
    b"size 10",
    b"size 1000",
    b"size 20000",
    b"sleep 0",
    b"sleep 0.001",
]
BURSTS = [1, 1, 1, 2, 3, 5, 20, 60]
PAUSES = [0.0] * 12 + [0.0001, 0.001, 0.01]

context = zmq.Context()
sockets = []
for _ in range(clients):
    socket = context.socket(zmq.DEALER)
    socket.linger = 0
    socket.connect(endpoint)
    sockets.append(socket)
poller = zmq.Poller()
for socket in sockets:
    poller.register(socket, zmq.POLLIN)
owed: dict[zmq.Socket, dict[bytes, float]] = {socket: {} for socket in sockets}
sent = received = errors = late = missed = stops = 0
longest = 0.0


def take(socket: zmq.Socket) -> None:
    """All that is there. An error does not say which request it answers: it is taken for the
    oldest's."""
    global received, errors, late, longest
    while socket.poll(0):
        word = socket.recv_multipart()[1].split()[-1]
        took = time.monotonic() - owed[socket].pop(
            word if word in owed[socket] else next(iter(owed[socket]))
        )
        received += 1
        errors += not word.isdigit()
        longest = max(longest, took)
        late += took >= LATE_SECONDS


def ask(socket: zmq.Socket, verb: bytes) -> None:
    global sent
    number = b"%d" % sent
    owed[socket][number] = time.monotonic()
    socket.send_multipart([b"", verb + b" " + number, pick.choice(BODIES)])
    sent += 1


def stop() -> None:
    """Until nothing is owed."""
    global missed, stops
    stops += 1
    in_vain = 0
    while any(owed.values()):
        ready = poller.poll(1000 * LATE_SECONDS)
        for socket, _ in ready:
            take(socket)
        in_vain = 0 if ready else in_vain + 1
        if not ready:
            missed += 1
            if in_vain == MOST_IN_VAIN:
                raise SystemExit("it does not go on")
            ask(pick.choice(sockets), b"echo")


while sent < requests:
    socket = pick.choice(sockets)
    for _ in range(min(pick.choice(BURSTS), requests - sent)):
        ask(socket, pick.choice(VERBS))
    take(pick.choice(sockets))
    while sum(map(len, owed.values())) > MOST_OWED:
        for ready, _ in poller.poll(1000):
            take(ready)
    if pick.random() < STOPS:
        stop()
    pause = pick.choice(PAUSES)
    if pause:
        time.sleep(pause)
stop()
print(
    json.dumps(
        {
            "sent": sent,
            "received": received,
            "errors": errors,
            "longest": longest,
            "late": late,
            "missed": missed,
            "stops": stops,
        }
    ),
    flush=True,
)
context.destroy(0)
