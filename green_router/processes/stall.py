"""A worker of ``--dispatch direct``: it serves clients itself, behind listening sockets of the supervisor.

Rules of this file
  1. It is the ordinary Server; only where it listens was made elsewhere.
  2. What it has counted is told once a second while there are requests, so that a worker that is killed takes along
     no more than the last second. Idle means no wake-ups.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent.hub import get_hub

from ..messages.in_flight import InFlight
from ..serving.deadlines import Deadlines
from ..serving.handlers import Handlers
from ..serving.mailbox import Mailbox
from ..serving.outcomes import Outcomes
from ..serving.server import Server

TELL_EVERY = 1.0
"""Seconds between two accounts while there are requests."""


class Pulse:
    """Tells the supervisor what was counted.

    Args:
        say: ``say(word, ...)``, to the supervisor.
        stats: what was counted.
    Attributes:
        asleep: whether ``wake`` shall be called when there is a request.
    """

    def __init__(self, say: Callable[..., None], stats: Callable[[], dict[str, Any]]) -> None:
        self._say, self._stats = say, stats
        self._loop = get_hub().loop
        self.asleep = True

    def wake(self) -> None:
        """OWNER. There is something in hand."""
        self.asleep = False
        self._timer = self._loop.timer(TELL_EVERY)
        self._timer.start(self._beat)

    def _beat(self) -> None:
        """HUB. The next request wakes it again."""
        self._timer.close()
        self.asleep = True
        self._say("count", self._stats())


class StallHandlers(Handlers):
    """Handlers with a pulse."""

    pulse: Pulse

    def schedule(self) -> None:
        if self.pulse.asleep:
            self.pulse.wake()
        super().schedule()


class StallServer(Server):
    """A Server with a pulse, that tells when it has crashed."""

    def __init__(self, handler: Callable[[Any], Any], settings: dict[str, Any], crashed: Callable[[BaseException], None],
                 say: Callable[..., None]) -> None:
        super().__init__(handler, **settings)
        self._crashed, self._say = crashed, say

    def _make_handlers(self, in_flight: InFlight, outcomes: Outcomes, mailbox: Mailbox, deadlines: Deadlines) -> StallHandlers:
        handlers = StallHandlers(self._handler, in_flight, outcomes, mailbox, deadlines)
        handlers.pulse = Pulse(self._say, self.stats)
        return handlers

    def _crash(self, error: BaseException) -> None:
        super()._crash(error)
        self._crashed(error)


class Stall:
    """Such a worker.

    Args:
        handler: the user's callable.
        settings: of the server.
        crashed: called with an error that ends the process.
        say: ``say(word, ...)``, to the supervisor.
    """

    def __init__(self, handler: Callable[[Any], Any], settings: dict[str, Any], crashed: Callable[[BaseException], None],
                 say: Callable[..., None]) -> None:
        self._server = StallServer(handler, settings, crashed, say)

    def open(self, listeners: list[tuple[str, int]]) -> None:
        """Serve. Raises BindError."""
        for endpoint, descriptor in listeners:
            self._server.adopt(endpoint, descriptor)
        self._server.start()

    def stats(self) -> dict[str, Any]:
        """What the server has counted."""
        return self._server.stats()

    def hurry(self, seconds: float) -> None:
        """HUB. Stop within that time, also when it is stopping already."""
        gevent.spawn(self._server.stop, seconds)

    def end(self, seconds: float | None) -> dict[str, Any]:
        """Finish what was taken. **Blocks**."""
        self._server.stop(seconds)
        return self._server.stats()


def counted(handler: Callable[[Any], Any], limit: int, worn: Callable[[], None]) -> Callable[[Any], Any]:
    """The handler; after that many requests ``worn`` is called, once."""
    left = limit

    def handle(request: Any) -> Any:
        nonlocal left
        left -= 1
        if left == 0:
            worn()
        return handler(request)

    handle.__qualname__ = getattr(handler, "__qualname__", type(handler).__qualname__)
    return handle
