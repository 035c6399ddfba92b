"""A program: clients that count. ``clients.py ENDPOINT TIMEOUT``, until SIGTERM; then it prints
what came of it, as JSON.

Four REQ clients ask again on a new socket after TIMEOUT seconds, until there is a reply. A DEALER
has ten requests under way, and does not ask again: what has no reply after three times as long
counts as missing, until it comes after all; at the end that is waited for, eight times as long.
"""

from __future__ import annotations

import json
import signal
import sys
from time import monotonic

import gevent
import zmq.green

ENDPOINT, TIMEOUT = sys.argv[1], float(sys.argv[2])

context = zmq.green.Context()
counts = {
    "asked": 0,
    "answered": 0,
    "retries": 0,
    "wrong": 0,
    "longest": 0.0,
    "sent": 0,
    "came": 0,
    "missing": 0,
}
going = True


def connected(kind):
    socket = context.socket(kind)
    socket.linger = 0
    socket.connect(ENDPOINT)
    return socket


def ask(index):
    socket, number = connected(zmq.REQ), 0
    while going:
        data, begun = b"%d %d" % (index, number), monotonic()
        counts["asked"] += 1
        socket.send(data)
        while not socket.poll(int(1000 * TIMEOUT)):
            counts["retries"] += 1
            socket.close()
            socket = connected(zmq.REQ)
            socket.send(data)
        counts["wrong"] += socket.recv() != data
        counts["answered"] += 1
        counts["longest"] = max(counts["longest"], round(monotonic() - begun, 2))
        number += 1
        tell()
        gevent.sleep(0.005)


def tell():
    """A line now and then, for who waits for progress."""
    if counts["answered"] % 50 == 0:
        print("answered", counts["answered"], flush=True)


def count():
    socket, under_way, number = connected(zmq.DEALER), {}, 0
    ended = 0.0
    while going or under_way or (counts["missing"] and monotonic() < ended + 8 * TIMEOUT):
        ended = ended or (0.0 if going else monotonic())
        while going and len(under_way) < 10:
            socket.send_multipart([b"", b"%d" % number])
            under_way[number] = monotonic()
            counts["sent"] += 1
            number += 1
        if socket.poll(50):
            came = int(socket.recv_multipart()[-1])
            if came in under_way:
                del under_way[came]
                counts["came"] += 1
            else:
                counts["came"] += 1
                counts["missing"] -= 1
            gevent.sleep(0.001)
        for late in [
            each for each, since in under_way.items() if monotonic() - since > 3 * TIMEOUT
        ]:
            del under_way[late]
            counts["missing"] += 1


def end():
    global going
    going = False


gevent.signal_handler(signal.SIGTERM, end)
greenlets = [*(gevent.spawn(ask, index) for index in range(4)), gevent.spawn(count)]
print("asking", flush=True)
gevent.joinall(greenlets, raise_error=True)
print(json.dumps(counts), flush=True)
