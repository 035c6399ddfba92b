"""The parts of a server that may be others: its ROUTER, where handlers run, who watches, who is
told.

Rules of this file
  1. A server is composed when it is made: nobody overrides a method of it, and nobody sets an
     attribute of it afterwards.
  2. What is called here is called in the serving thread, and does not block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import zmq

from ..messages.in_flight import InFlight
from ..messages.ledger import Ledger
from ..messages.request import Request
from ..security.control import AccessControl
from ..settings import Settings
from ..sockets.router import Router
from .deadlines import Deadlines
from .failures import Failures
from .handlers import Handlers, Workplace
from .mailbox import Mailbox
from .observer import Observer
from .on_disconnect import Leaving, OnDisconnect
from .results import Results
from .turns import Turns


class Core(NamedTuple):
    """The parts of a server that are always the same, for whoever makes its workplace.

    Attributes:
        secured: whether peers may have user ids.
    """

    handler: Callable[[Request], Any]
    settings: Settings
    secured: bool
    inbox: deque[Request]
    in_flight: InFlight
    results: Results
    failures: Failures
    mailbox: Mailbox
    deadlines: Deadlines
    turns: Turns
    ledger: Ledger
    crash: Callable[[BaseException], None]


MakeRouter = Callable[[Callable[[], zmq.Context[Any]], Settings, AccessControl], Any]
"""``make(context, settings, access)`` makes the ROUTER; ``context()`` is the server's, which is
made when it is asked for the first time."""


def real_router(
    context: Callable[[], zmq.Context[Any]], settings: Settings, access: AccessControl
) -> Router:
    """Make a ROUTER of libzmq."""
    return Router(context(), settings, access=access, peers=True)


def handlers_here(core: Core) -> Handlers:
    """Run handlers in greenlets of this thread."""
    return Handlers(
        core.handler,
        core.settings.concurrency,
        core.inbox,
        core.in_flight,
        core.results,
        core.failures,
        core.mailbox,
        core.deadlines,
        core.turns,
    )


def application_told(core: Core) -> Leaving | None:
    """Let the application's on_disconnect, if there is one, be told of clients that are gone."""
    return OnDisconnect.of(core.settings, core.mailbox, core.results.run, core.crash)


def the_monitor(stats: Callable[[], dict[str, Any]], monitor: Observer | None) -> Observer | None:
    """Let the loop monitor, if there is one, be the only observer."""
    return monitor


def nothing() -> None:
    """Do nothing: nobody wants to know that a server stops."""


@dataclass(frozen=True)
class Parts:
    """The composition of a server.

    Attributes:
        name: of the handler, in messages; None for its own.
        router: makes the ROUTER, or what is as one to the owner (testing/router.py).
        workplace: makes what runs the handlers.
        observer: ``observer(stats, monitor)`` makes what is woken when something happens.
        on_disconnect: makes what is told of clients that are gone, if anybody is.
        crashed: ``crashed(error)``, called with what ends the server; whoever is told raises it.
            None where nobody is.
        stopping: called once when stopping begins.
        limits_on_error: whether ``handler_timeout`` holds for on_error here.
        warns: whether endpoints that others can reach are warned of.
    """

    name: str | None = None
    router: MakeRouter = real_router
    workplace: Callable[[Core], Workplace] = handlers_here
    observer: Callable[[Callable[[], dict[str, Any]], Observer | None], Observer | None] = (
        the_monitor
    )
    on_disconnect: Callable[[Core], Leaving | None] = application_told
    crashed: Callable[[BaseException], None] | None = None
    stopping: Callable[[], object] = nothing
    limits_on_error: bool = True
    warns: bool = True


USUAL = Parts()
"""The parts of a server that stands alone."""
