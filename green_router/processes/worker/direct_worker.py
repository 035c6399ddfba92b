"""A worker of ``--dispatch direct``: it serves clients itself, behind listening sockets of the
supervisor.

Rules of this file
  1. It is the ordinary Server; only where it listens was made elsewhere.
  2. It serves when it is told to. Whoever connects until then waits in the kernel.
  3. What it has counted is told once a second while something happens, so that a worker that is
     killed takes along no more than the last second. Idle means no wake-ups.
"""

from __future__ import annotations

import contextvars
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent.hub import get_hub

from ...hub import forked
from ...hub.guarded import guarded
from ...serving.observer import Observer
from ...serving.parts import Parts
from ...serving.server import Server
from ..channel import protocol
from ..channel.protocol import Message, Routes

TELL_EVERY = 1.0
"""Seconds between two accounts while something happens."""


class CountReporter:
    """Tells the supervisor what was counted.

    Args:
        say: ``say(message)``, to the supervisor.
        stats: what was counted.
        other: who else wants to know when something happens.
    """

    def __init__(
        self,
        say: Callable[[Message], None],
        stats: Callable[[], dict[str, Any]],
        other: Observer | None,
    ) -> None:
        self._say, self._stats, self._other = say, stats, other
        self._loop = get_hub().loop
        self._timer: Any = None
        forked.arm(self)

    @property
    def asleep(self) -> bool:
        """True if ``wake`` shall be called when something happens."""
        return self._timer is None or (self._other is not None and self._other.asleep)

    def wake(self) -> None:
        """OWNER. There may be something new."""
        if self._timer is None:
            self._timer = self._loop.timer(TELL_EVERY)
            self._timer.start(self._beat)
        if self._other is not None and self._other.asleep:
            self._other.wake()

    def _beat(self) -> None:
        """HUB. Fall asleep; the next event wakes it again."""
        self._timer.close()
        self._timer = None
        self._say(protocol.counted(self._stats()))

    def disarm(self) -> None:
        """In a forked child: there is nothing to tell."""
        if self._timer is not None:
            self._timer.close()


def parts(crashed: Callable[[BaseException], None], say: Callable[[Message], None]) -> Parts:
    """Compose a server that tells the supervisor what it has counted, and when it has crashed."""
    # The supervisor warns.
    return Parts(observer=partial(CountReporter, say), crashed=crashed, warns=False)


class DirectWorker:
    """A worker that serves clients itself.

    Args:
        handler: the user's callable.
        settings: of the server.
        listeners: endpoints, and the descriptors that listen there.
        proxies: to connect to.
        crashed: called with an error that ends the process.
        say: ``say(message)``, to the supervisor.
    """

    def __init__(
        self,
        handler: Callable[[Any], Any],
        settings: dict[str, Any],
        listeners: list[tuple[str, int]],
        proxies: tuple[str, ...],
        crashed: Callable[[BaseException], None],
        say: Callable[[Message], None],
    ) -> None:
        self._crashed = crashed
        self.routes = protocol.serve.to(self._open), protocol.read_keys.to(self._read_keys)
        self._server = Server(handler, parts(crashed, say), **settings)
        # Handlers run in the context that the application's import has left; whoever calls ``open``
        # has another one.
        self._context = contextvars.copy_context()
        for endpoint, descriptor in listeners:
            self._server.adopt(endpoint, descriptor)
        self._server.connect(*proxies)

    def receive(self, routes: Routes, batch: list[Message]) -> None:
        """HUB. Take what the supervisor says."""
        routes.take_all(batch)

    def _open(self) -> None:
        """HUB. Serve, or crash with BindError."""
        gevent.spawn(guarded(partial(self._context.run, self._server.start), self._crashed))

    def _read_keys(self) -> None:
        """HUB. Read the directories of keys again."""
        if self._server.access.has_directory:
            self._server.access.reload()

    def stats(self) -> dict[str, Any]:
        """Return what the server has counted."""
        return self._server.stats()

    def hurry(self, seconds: float) -> None:
        """HUB. Stop within that time, also when it is stopping already."""
        gevent.spawn(self._server.stop, seconds)

    def end(self, seconds: float | None) -> dict[str, Any]:
        """Finish what was taken. **Blocks**."""
        self._server.stop(seconds)
        return self._server.stats()


def counted(
    handler: Callable[[Any], Any], limit: int, recycle: Callable[[], None]
) -> Callable[[Any], Any]:
    """The handler; after that many requests ``recycle`` is called, once."""
    left = limit

    def handle(request: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            recycle()
        return handler(request)

    handle.__qualname__ = getattr(handler, "__qualname__", type(handler).__qualname__)
    return handle
