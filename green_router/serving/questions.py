"""The requests of a server whose handlers were not ready, and wait to be asked again.

Rules of this file
  1. A request that waits is an object in the table of those whose handlers have returned
     (messages/in_flight.py): whoever settles the request finds it there, and ends the waiting.
  2. When it is asked, and by what, is in asking.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..hub import forked
from ..messages.in_flight import InFlight
from ..messages.request import Request
from .departures import Departures
from .mailbox import Mailbox
from .polling import AskedFields


def tick_of(now: float) -> int:
    """Return a time in whole milliseconds."""
    return int(1000 * now)


def is_pending(result: object) -> bool:
    """Return whether a handler has said "not ready": None, False or an empty tuple."""
    return result is None or result is False or (issubclass(type(result), tuple) and not result)


class Asks(Protocol):
    """The asking of one handler in one server (asking.py)."""

    over: bool
    """Whether nobody asks any more."""

    said: int
    """How often somebody has said that something is ready."""

    def begin(self, asked: Asked, said: int) -> None:
        """HANDLER. Let a request wait; ``said`` is as in ``Asked``."""

    def forget(self, asked: Asked) -> None:
        """HANDLER or HUB. Let it wait no more."""

    def close(self) -> None:
        """HUB or OWNER. Ask no more."""


class Asked(AskedFields):
    """A request whose handler was not ready. It is its holder in the table of open requests.

    Args:
        asking: of its handler.
        request: the request.
        said: how often somebody had said that something is ready, before the handler looked.
    Attributes:
        request, greenlet, context, waiter: as in PureAskedFields (polling.py).
        born: when it was received, in ticks.
        round: in which it waits (rounds.py), or None.
    """

    __slots__ = ("_said", "asking", "born", "round")

    def __init__(self, asking: Asks, request: Request, said: int) -> None:
        self.asking, self._said = asking, said
        self.request = request
        self.greenlet = self.context = self.waiter = None
        self.born = tick_of(request.received_at)
        self.round: Any = None

    @property
    def running(self) -> bool:
        """True if its handler is the one that runs in this moment."""
        return self.greenlet is not None and self.greenlet.gr_frame is None

    @property
    def put_off(self) -> bool:
        """True while its handler waits to be asked again."""
        return self.greenlet is None

    def throw(self, error: BaseException) -> None:
        """HUB. End the handler, or the waiting for it."""
        if self.greenlet is not None:
            self.greenlet.throw(error)
        else:
            self.asking.forget(self)

    def wait(self) -> None:
        """HANDLER. Ask its handler, which has returned, again until there is a reply."""
        self.asking.begin(self, self._said)

    def end(self) -> None:
        """HANDLER. Let it wait no more."""
        self.asking.forget(self)


class Questions:
    """The questions of one server: what asking.py needs of it, and what it needs of asking.py. Made
    in the serving thread.

    Args:
        in_flight, mailbox, departures: of the server.
        finish, fail, bug: of its results.
    Attributes:
        known: what asks each handler, by the handler.
        occupy: ``occupy(change)``, told how many questions more, or fewer, wait for something.
    """

    def __init__(
        self,
        in_flight: InFlight,
        mailbox: Mailbox,
        departures: Departures,
        finish: Callable[[Request, Any], None],
        fail: Callable[[Request, BaseException], None],
        bug: Callable[[BaseException], None],
        occupy: Callable[[int], None],
    ) -> None:
        self.in_flight, self.mailbox, self.departures = in_flight, mailbox, departures
        self.finish, self.fail, self.bug, self.occupy = finish, fail, bug, occupy
        self.known: dict[object, Asks] = {}
        forked.arm(self)

    def __iter__(self) -> Iterator[Asked]:
        """Yield those whose handler waits for something within a question."""
        for holder in list(self.in_flight.elsewhere.values()):
            if isinstance(holder, Asked) and holder.greenlet is not None:
                yield holder

    def close(self) -> None:
        """HUB or OWNER. Ask no more."""
        for asking in self.known.values():
            asking.close()
        self.known.clear()

    def disarm(self) -> None:
        """In a forked child: those that wait, wait in the parent."""
        self.known.clear()
