"""REQ clients that wait for a reply for a while, then close, and ask again on a new connection.

Usage: lazy_pirates.py ENDPOINT CLIENTS PATIENCE

PATIENCE is in seconds. Each request is a number. A line on standard input ends them; the answer is
a line of JSON: when each request was given up, in seconds of ``time.monotonic``, and how many were
answered.
"""

from __future__ import annotations

import errno
import json
import resource
import sys
import time

import zmq

endpoint, clients, patience = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
_, most = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
context = zmq.Context()
context.set(zmq.MAX_SOCKETS, 20 * clients)
poller = zmq.Poller()
asking: dict[zmq.Socket[bytes], tuple[float, int]] = {}  # the oldest first
given_up: dict[int, float] = {}
asked = answered = 0


def new_socket() -> zmq.Socket[bytes]:
    """Make one; where those that were closed are still being taken apart, a little later."""
    while True:
        try:
            return context.socket(zmq.REQ)
        except zmq.ZMQError as error:
            if error.errno != errno.EMFILE:
                raise
            time.sleep(0.001)


def ask() -> None:
    global asked
    client = new_socket()
    client.linger = 0
    client.connect(endpoint)
    client.send(b"%d" % asked)
    poller.register(client, zmq.POLLIN)
    asking[client] = time.monotonic() + patience, asked
    asked += 1


def leave(client: zmq.Socket[bytes]) -> int:
    poller.unregister(client)
    client.close()
    return asking.pop(client)[1]


poller.register(sys.stdin, zmq.POLLIN)
print("ready", flush=True)
for _ in range(clients):
    ask()
ending = False
while not ending:
    first = next(iter(asking.values()))[0]
    for what, _ in poller.poll(max(0, 1000 * (first - time.monotonic()))):
        if what == sys.stdin.fileno():
            ending = True
        else:
            leave(what)
            answered += 1
            ask()
    now = time.monotonic()
    while asking and next(iter(asking.values()))[0] <= now:
        number = leave(next(iter(asking)))
        given_up[number] = time.monotonic()
        ask()
print(json.dumps({"given up": given_up, "answered": answered}), flush=True)
context.destroy(0)
