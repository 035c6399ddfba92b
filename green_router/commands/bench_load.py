"""The load of ``green-router bench``: many clients in one process, and every reply checked.

Rules of this file
  1. It is run as a plain script and needs nothing but pyzmq: it knows nothing of green_router, nor of gevent.
  2. The load is closed: each client keeps a fixed number of requests on their way, and sends the next one when a reply
     has come. So a server is never given more than it answers, and requests/s is what it can do.
  3. A request begins with its client's number and its own, and the reply must be the request, byte for byte, on the
     connection that sent it. What is something else is wrong; what does not come is lost; what nobody waits for, a
     second reply among it, is unasked.
  4. A strategy that needs another client has a class Client in its file, with the methods of Dealer.

What is said on standard input and output, a line of JSON each
  ``Order`` in: the clients connect and work for WARM_UP seconds. ``{"ready": true}`` out. ``go`` in: they work for as
  long as ordered, then wait for the last replies. A result out, as ``Tally.result`` makes it, with the CPU time of this
  process. The clients leave; the next order. Any other line than ``go`` ends an order, and ``{}`` is answered. A
  failure is ``{"error": "..."}``.
"""
from __future__ import annotations

import json
import runpy
import select
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Protocol

import zmq
from zmq.backend import Socket

WARM_UP = 0.3
"""Seconds of the same load that are not counted: connections are made, threads started, caches filled."""

LAST_LOOK = 0.02
"""Seconds after the last reply when it is looked once more: what comes twice comes at once."""

HEAD = Struct(">QQ")
"""Client and request, at the beginning of each request; no request can be smaller."""

NOBLOCK, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)
EVENTS, POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


@dataclass(frozen=True, slots=True)
class Order:
    """What the clients of one process shall do.

    Attributes:
        endpoint: where to connect.
        first: the number of the first client; no other process has the same ones.
        clients: how many.
        in_flight: requests of each that are on their way.
        size_bytes: of each request.
        seconds: how long.
        patience: seconds without any reply after which those that are missing are lost.
        program: the file whose class Client is to be used; empty for Dealer.
    """

    endpoint: str
    first: int
    clients: int
    in_flight: int
    size_bytes: int
    seconds: float
    patience: float
    program: str = ""


class Client(Protocol):
    """What a client must be able to do."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be replies. It need not be so again before ``replies`` was
        empty."""

    def send(self, data: bytes, /) -> object:
        """Send a request."""

    def replies(self) -> Sequence[bytes]:
        """All replies that have come, without waiting."""

    def close(self) -> object:
        """Leave."""


class Dealer:
    """A DEALER socket that sends what REQ would: an empty frame, then the request.

    It moves single frames through pyzmq's compiled methods. The others (send_multipart, and those of zmq.Socket) check
    in Python what is known here, and a slow client measures itself.
    """

    __slots__ = ("_get", "_recv", "_send", "_socket")

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        self._socket = context.socket(zmq.DEALER)
        # Nothing is dropped or held back here: how much is on its way, the load decides.
        for option, value in ((zmq.SNDHWM, 0), (zmq.RCVHWM, 0), (zmq.LINGER, 0)):
            self._socket.setsockopt(option, value)
        self._socket.connect(endpoint)
        self._recv, self._send, self._get = (getattr(Socket, name).__get__(self._socket)
                                             for name in ("recv", "send", "get"))

    def fileno(self) -> int:
        descriptor: int = self._socket.fileno()
        return descriptor

    def send(self, data: bytes) -> None:
        self._send(b"", MORE)
        self._send(data, NOBLOCK)

    def replies(self) -> list[bytes]:
        replies: list[bytes] = []
        if not self._get(EVENTS) & POLLIN:
            return replies
        recv = self._recv
        try:
            while True:
                # Without an empty frame before it, it is no reply for REQ; the empty reply is wrong for everybody.
                replies.append(b"" if recv(NOBLOCK) else recv(NOBLOCK))
        except zmq.Again:
            return replies

    def close(self) -> None:
        self._socket.close()


class Tally:
    """What came back.

    Attributes:
        latencies: how often a reply took so many whole microseconds.
        replies: all that were right, also those after the time was over.
        in_time: those before.
        wrong, lost, unasked: see the rules of this file.
    """

    __slots__ = ("in_time", "latencies", "lost", "replies", "unasked", "wrong")

    def __init__(self) -> None:
        self.latencies: defaultdict[int, int] = defaultdict(int)
        self.replies = self.in_time = self.wrong = self.lost = self.unasked = 0

    def result(self) -> dict[str, Any]:
        """As it is printed. Latencies of a millisecond and more are rounded down to three digits."""
        rounded: defaultdict[int, int] = defaultdict(int)
        for microseconds, count in self.latencies.items():
            unit = 10 ** max(0, len(str(microseconds)) - 3)
            rounded[microseconds // unit * unit] += count
        return {"replies": self.replies, "in_time": self.in_time, "wrong": self.wrong, "lost": self.lost,
                "unasked": self.unasked, "latencies": sorted(rounded.items())}


class CheckedClient:
    """One client at work.

    Attributes:
        waiting: the requests on their way, as their heads, and when they were sent (ns).
    """

    __slots__ = ("_client", "_number", "_padding", "_sent", "_size", "waiting")

    def __init__(self, client: Client, number: int, padding: bytes) -> None:
        self._client, self._number, self._padding = client, number, padding
        self._size, self._sent = HEAD.size + len(padding), 0
        self.waiting: dict[bytes, int] = {}

    def send(self, count: int, now: int) -> None:
        """Send that many requests."""
        pack, number, padding, waiting, send = HEAD.pack, self._number, self._padding, self.waiting, self._client.send
        for serial in range(self._sent, self._sent + count):
            head = pack(number, serial)
            waiting[head] = now
            send(head + padding)
        self._sent += count

    def take(self, tally: Tally) -> tuple[int, int]:
        """Check all replies that have come: how many that was, and when (ns)."""
        replies = self._client.replies()
        now = time.perf_counter_ns()
        size, padding, head, latencies = self._size, self._padding, HEAD.size, tally.latencies
        asked = self.waiting.pop
        right = 0
        for reply in replies:
            sent = asked(reply[:head], 0)
            if sent and len(reply) == size and reply.endswith(padding):
                latencies[(now - sent) // 1000] += 1
                right += 1
            elif sent:
                tally.wrong += 1
            else:
                self._unexpected(reply, tally)
        tally.replies += right
        return len(replies), now

    def _unexpected(self, reply: bytes, tally: Tally) -> None:
        """A reply that answers no request on its way: one that was answered before, or none of this client's."""
        number, serial = HEAD.unpack(reply[:HEAD.size]) if len(reply) >= HEAD.size else (-1, 0)
        if number == self._number and serial < self._sent:
            tally.unasked += 1
        else:
            tally.wrong += 1


class Clients:
    """All clients of this process."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._context: zmq.Context[Any] = zmq.Context()
        # A client of a strategy's own may need two sockets, and libzmq one more.
        self._context.set(zmq.MAX_SOCKETS, 2 * order.clients + 16)
        kind = runpy.run_path(order.program)["Client"] if order.program else Dealer
        self._clients: list[Client] = [kind(self._context, order.endpoint) for _ in range(order.clients)]
        padding = (bytes(range(251)) * (order.size_bytes // 251 + 1))[:order.size_bytes - HEAD.size]
        self._checked = {client.fileno(): CheckedClient(client, order.first + index, padding)
                         for index, client in enumerate(self._clients)}

    def run(self, seconds: float) -> Tally:
        """Keep the clients at work for that long, then wait for what is on its way. **Blocks** until it has come."""
        tally = Tally()
        clients, in_flight, patience = self._checked, self._order.in_flight, int(self._order.patience * 1e9)
        came = now = time.perf_counter_ns()
        end = now + int(seconds * 1e9)
        for client in clients.values():
            client.send(in_flight, time.perf_counter_ns())
        # A client is asked until it has nothing more: its descriptor does not tell what a send has brought to light.
        hot = set(clients)
        with Readable(clients) as readable:
            while now - came < patience and (now < end or any(client.waiting for client in clients.values())):
                hot.update(readable.wait(0.0 if hot else 0.1))
                for descriptor in list(hot):
                    client = clients[descriptor]
                    count, now = client.take(tally)
                    if not count:
                        hot.discard(descriptor)
                        continue
                    came = now
                    if now < end:
                        client.send(in_flight - len(client.waiting), now)
                if now < end:
                    tally.in_time = tally.replies
                if not hot:
                    now = time.perf_counter_ns()
        tally.lost = sum(len(client.waiting) for client in clients.values())
        time.sleep(LAST_LOOK)
        for client in clients.values():
            client.take(tally)
        return tally

    def close(self) -> None:
        """Leave."""
        for client in self._clients:
            client.close()
        self._context.destroy(linger=0)


class Readable:
    """Waits for descriptors: by epoll, whose cost does not grow with their number, where the system has it."""

    def __init__(self, descriptors: Iterable[int]) -> None:
        self._epoll = hasattr(select, "epoll")
        self._poll: Any = select.epoll() if self._epoll else select.poll()
        for descriptor in descriptors:
            self._poll.register(descriptor, select.POLLIN)

    def wait(self, seconds: float) -> list[int]:
        """Those that are readable. **Blocks** until there is one, or the time is over."""
        return [descriptor for descriptor, _ in self._poll.poll(seconds if self._epoll else 1000 * seconds)]

    def __enter__(self) -> Readable:
        return self

    def __exit__(self, *_: object) -> None:
        if self._epoll:
            self._poll.close()


def work(order: Order) -> dict[str, Any]:
    """Do what is ordered, once with the warm-up and once, at ``go``, to be counted."""
    clients = Clients(order)
    try:
        warm = clients.run(WARM_UP)
        if warm.wrong or warm.lost or warm.unasked:
            return warm.result()
        print(json.dumps({"ready": True}), flush=True)
        if sys.stdin.readline() != "go\n":
            return {}
        cpu = time.process_time()
        tally = clients.run(order.seconds)
        return tally.result() | {"cpu_seconds": time.process_time() - cpu}
    finally:
        clients.close()


def main() -> None:
    """Take orders until standard input ends."""
    for line in sys.stdin:
        try:
            answer = work(Order(**json.loads(line)))
        except (OSError, zmq.ZMQError) as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
