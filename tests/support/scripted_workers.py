"""Workers that are scripted: each is the other end of a channel, in the hand of the test, and does
what no well-behaved one does at the right moment.

Rules of this file
  1. The server is a real one, with real clients; only what a worker process would say is made up.
  2. ``say`` returns when the dispatcher has heard; ``take`` waits for what the worker is told.
  3. A rig that is closed has balanced accounts, each worker's and all together, and nothing has
     crashed.
"""

from __future__ import annotations

import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import gevent
import zmq

from green_router.messages.ledger import ANSWERED
from green_router.processes.channel.protocol import Routes
from green_router.processes.channel.stream import Channel
from green_router.processes.front.backend import Backend
from green_router.processes.front.dispatcher import Dispatcher
from green_router.processes.front.server import Front
from green_router.serving.parts import MakeRouter, real_router
from green_router.testing import DEADLINE, RunningServer, assert_balanced, eventually

SOON = 0.05
"""Seconds until a request that nobody answers times out."""


NEVER = 100 * DEADLINE
"""A timeout that no test sees pass."""


def nothing() -> None:
    """Do nothing."""


class FrontHere(RunningServer):
    """A server whose handlers run in workers, with clients at hand. Attributes: dispatcher, from
    ``start`` on."""

    def __init__(
        self,
        window: int,
        retries: int,
        explains: bool,
        tells: bool,
        crashed: Callable[[BaseException], None],
        router: MakeRouter = real_router,
        **settings: Any,
    ) -> None:
        self._front = front = Front(
            "app:handle", window, retries, explains, tells, crashed, settings
        )
        super().__init__(front.handler, replace(front.parts, router=router), **front.settings)

    @property
    def dispatcher(self) -> Dispatcher:
        return self._front.dispatcher


class Scripted:
    """A worker that says what the test wants. Attributes: heard, what it was told and has not been
    taken out."""

    def __init__(
        self, front: FrontHere, limit: int | None = None, recycle: Callable[[], None] = nothing
    ) -> None:
        ours, theirs = socket.socketpair()
        self.front, self.heard, self._open = front, [], True
        self._channel = Channel(theirs.detach(), self.heard.extend, lambda: None)
        self._backend_channel = Channel(ours.detach(), self._said, self._gone)
        self.backend = Backend(1, self._backend_channel, Routes(), nothing, limit, recycle)
        self.received = front.dispatcher.add(self.backend)

    def _said(self, batch: list[Any]) -> None:
        self.received(batch)

    def _gone(self) -> None:
        self.front.dispatcher.lost(self.backend, "ended")

    def say(self, *messages: Any) -> None:
        """Tell the dispatcher, and wait until it has heard."""
        self._channel.send([*messages])
        gevent.sleep(0)
        gevent.idle()

    def take(self, kind: str = "request") -> Any:
        """The next of what it was told that is a request, or begins with that word. **Blocks**
        until it is there."""

        def find() -> Any:
            return next(
                (
                    message
                    for message in self.heard
                    if (message[0] == kind or (kind == "request" and isinstance(message[0], int)))
                ),
                None,
            )

        message = eventually(find)
        self.heard.remove(message)
        return message

    def requests(self) -> list[bytes]:
        """The bodies of the requests that it was given and that were not taken."""
        return [message[3][-1] for message in self.heard if isinstance(message[0], int)]

    def answer(self) -> None:
        """Echo the next request."""
        key, _, _, frames, *_ = self.take()
        self.say((key, ANSWERED, frames[-1]))

    def die(self) -> None:
        """End, as a killed process does."""
        if self._open:
            self._open = False
            self._channel.close()
            eventually(lambda: self._backend_channel.closed)

    @property
    def row(self) -> dict[str, Any]:
        """Its statistics, in balance, without what is zero."""
        row = self.backend.snapshot()
        assert row["received"] == sum(row["fates"].values()) + row["in_flight"], row
        return {
            name: value for name, value in (*row["fates"].items(), *row["events"].items()) if value
        } | {"received": row["received"], "in_flight": row["in_flight"]}


class Rig:
    """A server, and scripted workers."""

    def __init__(
        self, stack: ExitStack, window: int, retries: int, explains: bool, settings: dict[str, Any]
    ) -> None:
        tells = settings.pop("tells", False)
        self.crashes: list[BaseException] = []
        self.front = FrontHere(window, retries, explains, tells, self.crashes.append, **settings)
        self.front.bind("tcp://127.0.0.1:0")
        self.front.start()
        self.workers: list[Scripted] = []
        stack.callback(self._close)
        self.dealer = self.front.client(zmq.DEALER)

    def _close(self) -> None:
        assert_balanced(self.front)
        self.front.close_clients()
        self.front.stop(0)
        assert_balanced(self.front)
        for worker in self.workers:
            assert worker.row
            worker.die()
        assert self.crashes == []

    def worker(self, limit: int | None = None, recycle: Callable[[], None] = nothing) -> Scripted:
        self.workers.append(Scripted(self.front, limit, recycle))
        return self.workers[-1]

    def ask(self, *bodies: bytes) -> None:
        """Send these requests; when it returns they are all there, and whoever was given one has
        heard it."""
        before = self.front.stats()["received"]
        for body in bodies:
            self.dealer.send_multipart([b"", body])
        eventually(lambda: self.front.stats()["received"] == before + len(bodies))
        gevent.idle()  # they are handed out ...
        gevent.idle()  # ... and heard

    def time_out(self, worker: Scripted, key: int, seconds: float) -> None:
        """Let the deadline pass of a request that this worker has in hand; it is not told yet."""
        request = worker.backend.assignments[key].request
        request.received_at -= seconds
        self.front._failures.time_out(request, seconds)

    def reply(self) -> bytes:
        """The next reply that a client gets."""
        with gevent.Timeout(DEADLINE):
            frames: list[bytes] = self.dealer.recv_multipart()
        return frames[-1]

    def counts(self) -> dict[str, int]:
        """What became of everything, without what is zero."""
        stats = self.front.stats()
        return {
            name: value
            for name, value in (*stats["fates"].items(), *stats["events"].items())
            if value
        }
