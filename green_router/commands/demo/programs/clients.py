"""The clients: plain REQ and DEALER sockets, which are told where a server is, and nothing else
about it.

Rules of this file
  1. It is run as a plain script and needs nothing but pyzmq.
  2. It does what lines of JSON on standard input say: ``{"do": "work" | "pend" | "stall" | "leave",
     ...}``, with the arguments of the function of that name. Each is answered by a line: how late
     each reply was and after what time its request was begun, in microseconds; how many replies
     were wrong, did not come, or were dropped.
  3. A reply is late by the time from the moment that it names, at which it became ready, to that at
     which it is here.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from random import Random
from threading import Thread

import zmq

PATIENCE = 10.0
"""Seconds beyond the time that a reply takes after which it counts as lost."""

QUIET = 0.1
"""Seconds without a reply after which the one who did not read asks for a last one, to know that no
other comes. It asks again after as long: where replies are dropped, this one may be."""

SMALL_BUFFER = 65_536
"""Bytes that the system keeps for the one who does not read."""

DESCRIPTORS = 4096
"""How many this process may need: libzmq takes two for each client, and some systems begin with
256."""

Socket = zmq.Socket[bytes]

context: zmq.Context[Socket] = zmq.Context()
context.set(zmq.MAX_SOCKETS, 4096)
connected: dict[str, list[Socket]] = {}


@dataclass
class Result:
    """A count of what came back."""

    late: list[int] = field(default_factory=list)
    begun: list[int] = field(default_factory=list)
    wrong: int = 0
    lost: int = 0
    dropped: int = 0

    def note(self, sent: float, request: bytes, reply: bytes) -> None:
        """Check a reply that has just come."""
        now = time.monotonic()
        takes, _, text = request.split(b" ", 2)
        due, _, rest = reply.partition(b" ")
        if rest != text[::-1]:
            self.wrong += 1
            return
        self.late.append(round(1e6 * (now - float(due))))
        self.begun.append(round(1e6 * (float(due) - sent)) - int(takes))


def request_of(draw: Random, shortest: float, longest: float, text: bytes) -> bytes:
    """A request whose reply takes SHORTEST to LONGEST seconds."""
    return b"%d 0 %s" % (round(1e6 * draw.uniform(shortest, longest)), text)


def work(endpoint: str, clients: int, seconds: float, shortest: float, longest: float) -> Result:
    """Let REQ clients, a thread each, send one request after the other; one at least, also where
    SECONDS is 0."""
    sockets = connected.setdefault(endpoint, [])
    while len(sockets) < clients:
        socket = context.socket(zmq.REQ)
        socket.linger = 0
        socket.connect(endpoint)
        sockets.append(socket)
    for socket in sockets[:clients]:
        socket.setsockopt(zmq.RCVTIMEO, round(1000 * (longest + PATIENCE)))
    results = [Result() for _ in range(clients)]
    end = time.monotonic() + seconds
    threads = [
        Thread(target=_ask, args=(sockets[number], number, end, shortest, longest, results[number]))
        for number in range(clients)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return Result(
        [late for result in results for late in result.late],
        [begun for result in results for begun in result.begun],
        sum(result.wrong for result in results),
        sum(result.lost for result in results),
    )


def _ask(
    socket: Socket, number: int, end: float, shortest: float, longest: float, result: Result
) -> None:
    draw, count = Random(number), 0
    while not count or time.monotonic() < end:
        count += 1
        request = request_of(draw, shortest, longest, b"client %d request %d" % (number, count))
        sent = time.monotonic()
        socket.send(request)
        try:
            result.note(sent, request, socket.recv())
        except zmq.Again:
            result.lost += 1
            break


def pend(endpoint: str, clients: int, requests: int, shortest: float, longest: float) -> Result:
    """Send all requests at once from a few DEALER sockets, and wait for the replies."""
    draw, poller, result = Random(0), zmq.Poller(), Result()
    sent: dict[bytes, tuple[float, bytes]] = {}
    for number in range(clients):
        socket = context.socket(zmq.DEALER)
        socket.linger = socket.sndhwm = socket.rcvhwm = 0
        socket.connect(endpoint)
        poller.register(socket, zmq.POLLIN)
        for count in range(number, requests, clients):
            text = b"client %d request %d" % (number, count)
            request = request_of(draw, shortest, longest, text)
            sent[text[::-1]] = time.monotonic(), request
            socket.send_multipart([b"", request])
    until = time.monotonic() + longest + PATIENCE
    while sent and time.monotonic() < until:
        for socket, _ in poller.poll(1000):
            reply = socket.recv_multipart()[1]
            result.note(*sent.pop(reply.partition(b" ")[2], (0.0, b"0 0 unasked")), reply)
    for socket, _ in poller.sockets:
        socket.close()
    result.lost = len(sent)
    return result


def stall(endpoint: str, requests: int, padding: int, seconds: float) -> Result:
    """Send all requests at once, read nothing for SECONDS, and only then the replies: how many are
    still there?"""
    socket = context.socket(zmq.DEALER)
    socket.linger = socket.sndhwm = 0
    socket.rcvhwm, socket.rcvbuf = 1, SMALL_BUFFER
    socket.connect(endpoint)
    result = Result()
    for number in range(requests):
        socket.send_multipart([b"", b"0 %d request %d" % (padding, number)])
    time.sleep(seconds)
    came, last, until = 0, False, time.monotonic() + PATIENCE
    while not last and time.monotonic() < until:
        while not last and socket.poll(round(1000 * QUIET)):
            reply = socket.recv_multipart()[1]
            last = reply.endswith(b" tsal")
            came += not last
            result.wrong += not last and len(reply) < padding
        socket.send_multipart([b"", b"0 0 last"])
    socket.close()
    result.dropped = requests - came
    return result


def leave(endpoint: str) -> Result:
    """Close the connections to a server."""
    for socket in connected.pop(endpoint, []):
        socket.close()
    return Result()


DO: dict[str, Callable[..., Result]] = {"work": work, "pend": pend, "stall": stall, "leave": leave}


if __name__ == "__main__":
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    if most == resource.RLIM_INFINITY or most > DESCRIPTORS:
        most = DESCRIPTORS
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for line in sys.stdin:
        arguments = json.loads(line)
        print(json.dumps(asdict(DO[arguments.pop("do")](**arguments))), flush=True)
