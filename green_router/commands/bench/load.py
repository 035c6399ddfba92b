"""The load of ``green-router bench``: many clients in one process, and every reply checked.

Rules of this file
  1. It is run as a plain script and needs nothing but pyzmq: it knows nothing of green_router, nor
     of gevent.
  2. The load is closed: each client keeps a fixed number of requests on their way, and sends the
     next one when a reply has come. So a server is never given more than it answers, and requests/s
     is what it can do.
  3. A request begins with its client's number and its own, and the reply must be the request, byte
     for byte, on the connection that sent it. What is something else is wrong; what does not come
     is lost; what nobody waits for, a second reply among it, is unasked.
  4. It says how busy it was: a load that is never without work is itself the limit, and what it
     measures is itself.
  5. A strategy that needs another client has a class Client in its file, with the methods of
     Dealer. It gets the same context, so that its sockets are as quick.

What is said on standard input and output, a line each
  An ``Order`` in, as JSON: the clients connect and work for WARM_UP seconds. ``{"ready": true}``
  out. ``go BEGIN`` in: they work from now on; what counts begins at BEGIN, nanoseconds of the
  monotonic clock, and goes on for as long as ordered; then they wait for the last replies. A result
  out, as ``Work.result`` makes it, and that is all. If something was wrong before ``go``, its
  result comes in place of ready. A failure is ``{"error": "..."}``.
"""

from __future__ import annotations

import json
import runpy
import select
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any, Protocol

import zmq
from zmq.backend import Socket

WARM_UP = 0.3
"""Seconds of the same load that are not counted: connections are made, threads started, caches
filled."""

CONNECTING = 0.1
"""Seconds that those who connect are waited for, at the most, before the next ones do."""

LAST_LOOK = 0.02
"""Seconds after the last reply when it is looked once more: what comes twice comes at once."""

LONGEST_WAIT = 0.1
"""Seconds from one look at the clock to the next, at the most."""

HEAD = Struct(">QQ")
"""Client and request, at the beginning of each request; no request can be smaller."""

NOBLOCK, MORE = int(zmq.NOBLOCK), int(zmq.NOBLOCK | zmq.SNDMORE)

now_ns = time.monotonic_ns


@dataclass(frozen=True, slots=True)
class Order:
    """The work of the clients of one process.

    Attributes:
        endpoint: where to connect.
        first: the number of the first client; no other process has the same ones.
        clients: how many.
        at_once: how many of them connect at the same time. A server's queue for those is short (100
            in libzmq), and who does not get into it tries again a second later.
        in_flight: requests of each that are on their way.
        size_bytes: of each request.
        seconds: how long to count.
        patience: seconds without any reply after which those that are missing are lost.
        drain: seconds that the last replies may take, in all.
        program: the file whose class Client is to be used; empty for Dealer.
    """

    endpoint: str
    first: int
    clients: int
    at_once: int
    in_flight: int
    size_bytes: int
    seconds: float
    patience: float
    drain: float
    program: str = ""


# -- one client ------------------------------------------------------------------------------------


class LeanSocket(zmq.Socket[bytes]):
    """Sends by pyzmq's compiled method, as it receives anyway. That of zmq.Socket checks in Python
    what is known here, and a slow client measures itself."""

    send = Socket.send  # type: ignore[assignment]


class LeanContext(zmq.Context[LeanSocket]):
    """Makes such sockets. They drop nothing and hold nothing back: how much is on its way, the load
    decides. So no send ever waits."""

    def __init__(self, clients: int) -> None:
        super().__init__()
        # A client of a strategy's own may need two sockets, and libzmq one more.
        self.set(zmq.MAX_SOCKETS, 2 * clients + 16)
        self.setsockopt(zmq.SNDHWM, 0)
        self.setsockopt(zmq.RCVHWM, 0)
        self.setsockopt(zmq.LINGER, 0)

    def socket(self, kind: int) -> LeanSocket:  # type: ignore[override]
        """A socket of that kind."""
        return super().socket(kind, socket_class=LeanSocket)


class Client(Protocol):
    """The methods that the load calls on a client."""

    def fileno(self) -> int:
        """A descriptor that becomes readable when there may be replies. It need not be so again
        before ``replies`` was empty."""

    def send(self, requests: Sequence[bytes], /) -> object:
        """Send these requests."""

    def replies(self, enough: int, /) -> Sequence[bytes]:
        """Replies that have come: all, or as many as are enough, without waiting. It is empty only
        if there is none."""


class Dealer:
    """A DEALER socket that sends what REQ would: an empty frame, then the request."""

    __slots__ = ("_recv", "_send", "fileno")

    def __init__(self, context: zmq.Context[Any], endpoint: str) -> None:
        socket = context.socket(zmq.DEALER)
        socket.connect(endpoint)
        self._send, self._recv = socket.send, socket.recv
        self.fileno: Callable[[], int] = socket.fileno

    def send(self, requests: Sequence[bytes]) -> None:
        send = self._send
        for request in requests:
            send(b"", MORE)
            send(request, NOBLOCK)

    def replies(self, enough: int) -> list[bytes]:
        recv = self._recv
        replies: list[bytes] = []
        try:
            # To be told that there is no more costs 5 us, as much as eight replies; often the
            # number says so.
            while len(replies) < enough:
                # Without an empty frame before it, it is no reply for REQ; the empty reply is wrong
                # for everybody.
                replies.append(b"" if recv(NOBLOCK) else recv(NOBLOCK))
        except zmq.Again:
            pass
        return replies


class Tally:
    """A count of what came back.

    Args:
        begin, end: what comes between them is counted (ns).
    Attributes:
        latencies: how often a reply took so many whole microseconds; of the requests that were sent
            from begin on.
        replies: all that were right.
        in_time: those that came from begin to end.
        waited: how long there was nothing to do from begin to end (ns).
        wrong, lost, unasked: see the rules of this file.
    """

    __slots__ = (
        "begin",
        "end",
        "in_time",
        "latencies",
        "lost",
        "replies",
        "unasked",
        "waited",
        "wrong",
    )

    def __init__(self, begin: int, end: int) -> None:
        self.begin, self.end = begin, end
        self.latencies: defaultdict[int, int] = defaultdict(int)
        self.replies = self.in_time = self.waited = self.wrong = self.lost = self.unasked = 0

    def note_wait(self, since: int, until: int) -> None:
        """Note that from since until then there was nothing to do (ns)."""
        self.waited += max(0, min(until, self.end) - max(since, self.begin))

    def rounded(self) -> list[tuple[int, int]]:
        """The latencies, sorted. Those of a millisecond and more are rounded down to three
        digits."""
        rounded: defaultdict[int, int] = defaultdict(int)
        for microseconds, count in self.latencies.items():
            unit = 10 ** max(0, len(str(microseconds)) - 3)
            rounded[microseconds // unit * unit] += count
        return sorted(rounded.items())


class CheckedClient:
    """One client at work.

    Attributes:
        waiting: the requests on their way, as their heads, and when they were sent (ns).
    """

    __slots__ = ("_client", "_enough", "_number", "_padding", "_sent", "_size", "waiting")

    def __init__(self, client: Client, number: int, padding: bytes, in_flight: int) -> None:
        self._client, self._number, self._padding, self._enough = client, number, padding, in_flight
        self._size, self._sent = HEAD.size + len(padding), 0
        self.waiting: dict[bytes, int] = {}

    def send(self, count: int, now: int) -> None:
        """Send that many requests."""
        pack, number, padding, waiting = HEAD.pack, self._number, self._padding, self.waiting
        requests = []
        for serial in range(self._sent, self._sent + count):
            head = pack(number, serial)
            waiting[head] = now
            requests.append(head + padding)
        self._sent += count
        self._client.send(requests)

    def take(self, tally: Tally) -> tuple[int, int]:
        """Check the replies that have come: how many that was, and when (ns)."""
        replies = self._client.replies(self._enough)
        now = now_ns()
        size, padding, head, latencies, begin = (
            self._size,
            self._padding,
            HEAD.size,
            tally.latencies,
            tally.begin,
        )
        asked = self.waiting.pop
        right = 0
        for reply in replies:
            sent = asked(reply[:head], 0)
            if sent and len(reply) == size and reply.endswith(padding):
                right += 1
                if sent >= begin:
                    latencies[(now - sent) // 1000] += 1
            elif sent:
                tally.wrong += 1
            else:
                self._unexpected(reply, tally)
        tally.replies += right
        if begin <= now < tally.end:
            tally.in_time += right
        return len(replies), now

    def _unexpected(self, reply: bytes, tally: Tally) -> None:
        """A reply that answers no request on its way: one that was answered before, or none of this
        client's."""
        number, serial = HEAD.unpack(reply[: HEAD.size]) if len(reply) >= HEAD.size else (-1, 0)
        if number == self._number and serial < self._sent:
            tally.unasked += 1
        else:
            tally.wrong += 1


# -- all of them -----------------------------------------------------------------------------------


class Work:
    """The clients of this process, at work."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self._context = LeanContext(order.clients)
        self._kind = runpy.run_path(order.program)["Client"] if order.program else Dealer
        self._padding = (bytes(range(251)) * (order.size_bytes // 251 + 1))[
            : order.size_bytes - HEAD.size
        ]
        self._clients: dict[int, CheckedClient] = {}
        self._hot: set[int] = set()
        self._readable = Readable()

    def warm_up(self) -> Tally:
        """Connect all clients, and let them work for a while. **Blocks** until all replies have
        come."""
        order, tally = self._order, Tally(0, 0)
        for first in range(0, order.clients, order.at_once):
            group = [
                self._connect(number)
                for number in range(first, min(first + order.at_once, order.clients))
            ]
            began = now_ns()
            for client in group:
                client.send(1, began)
            while any(client.waiting for client in group) and now_ns() < began + CONNECTING * 1e9:
                self._turn(tally)
        tally.begin = tally.end = now_ns() + int(WARM_UP * 1e9)
        self.run(tally)
        return tally

    def _connect(self, index: int) -> CheckedClient:
        client = self._kind(self._context, self._order.endpoint)
        checked = CheckedClient(
            client, self._order.first + index, self._padding, self._order.in_flight
        )
        self._clients[client.fileno()] = checked
        self._readable.add(client.fileno())
        return checked

    def run(self, tally: Tally) -> None:
        """Keep the clients at work until the tally's end, then wait for what is on its way.
        **Blocks** until it has come.

        Raises:
            TimeoutError: it comes, but takes too long.
        """
        clients, order = self._clients, self._order
        patience, limit = int(order.patience * 1e9), tally.end + int(order.drain * 1e9)
        for client in clients.values():
            client.send(order.in_flight - len(client.waiting), now_ns())
        self._hot.update(clients)  # a descriptor does not tell what a send has brought to light
        now = came = now_ns()
        while now < tally.end or any(client.waiting for client in clients.values()):
            if self._turn(tally):
                came = now_ns()
            now = now_ns()
            if now - came > patience:
                break
            if now > limit:
                raise TimeoutError(
                    f"{sum(len(client.waiting) for client in clients.values()):,} replies had not "
                    f"come {order.drain:g} s after the last request"
                )
        tally.lost = sum(len(client.waiting) for client in clients.values())
        time.sleep(LAST_LOOK)
        for client in clients.values():
            client.take(tally)

    def _turn(self, tally: Tally) -> int:
        """Check the replies that have come, and before the end send the next requests; return how
        many came. **Blocks** for LONGEST_WAIT at the most if there are none."""
        clients, hot, in_flight = self._clients, self._hot, self._order.in_flight
        if hot:
            hot.update(self._readable.wait(0.0))
        else:
            since = now_ns()
            hot.update(self._readable.wait(LONGEST_WAIT))
            tally.note_wait(since, now_ns())
        came = 0
        for descriptor in list(hot):
            client = clients[descriptor]
            count, now = client.take(tally)
            if not count:
                # Only now: its descriptor does not tell what a send has brought to light.
                hot.discard(descriptor)
            elif now < tally.end:
                client.send(in_flight - len(client.waiting), now)
            came += count
        return came

    def count(self, begin: int) -> dict[str, Any]:
        """Work and count, from that time on (ns); return the result. **Blocks** until all replies
        have come."""
        tally = Tally(begin, begin + int(self._order.seconds * 1e9))
        since, own, all_threads = now_ns(), time.thread_time(), time.process_time()
        self.run(tally)
        passed, own, all_threads = (
            (now_ns() - since) / 1e9,
            time.thread_time() - own,
            time.process_time() - all_threads,
        )
        counting = tally.end - tally.begin
        # libzmq's I/O thread is the other one that may have more than it can do
        busy = max((counting - tally.waited) / counting, (all_threads - own) / passed)
        return self.result(tally) | {"cpu_seconds": all_threads, "busy": round(busy, 3)}

    @staticmethod
    def result(tally: Tally) -> dict[str, Any]:
        """A tally as it is printed."""
        return {
            "replies": tally.replies,
            "in_time": tally.in_time,
            "wrong": tally.wrong,
            "lost": tally.lost,
            "unasked": tally.unasked,
            "latencies": tally.rounded(),
        }

    def leave(self) -> None:
        """Close the connections of ZeroMQ; those of another kind end with this process."""
        self._context.destroy()


class Readable:
    """Waits for descriptors: by epoll, whose cost does not grow with their number, where the system
    has it."""

    def __init__(self) -> None:
        self._epoll = hasattr(select, "epoll")
        self._poll: Any = select.epoll() if self._epoll else select.poll()

    def add(self, descriptor: int) -> None:
        """Wait for this one too."""
        self._poll.register(descriptor, select.POLLIN)

    def wait(self, seconds: float) -> list[int]:
        """Return the sockets that are readable. **Blocks** until there is one, or the time is
        over."""
        return [
            descriptor
            for descriptor, _ in self._poll.poll(seconds if self._epoll else 1000 * seconds)
        ]


def main() -> None:
    """Do what is ordered: once to warm up, once to be counted."""
    work = Work(Order(**json.loads(sys.stdin.readline())))
    try:
        warm = work.warm_up()
        if warm.wrong or warm.lost or warm.unasked:
            answer = work.result(warm)
        else:
            print(json.dumps({"ready": True}), flush=True)
            go = sys.stdin.readline().split()
            answer = work.count(int(go[1])) if go else {}
    except (OSError, zmq.ZMQError) as error:
        answer = {
            "error": str(error)
            if isinstance(error, TimeoutError)
            else f"{type(error).__name__}: {error}"
        }
    print(json.dumps(answer), flush=True)
    work.leave()


if __name__ == "__main__":
    main()
