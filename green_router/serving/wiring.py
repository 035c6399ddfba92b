"""Makes the parts of a server, and those of a worker behind a front, each of those that it needs.

Rules of this file
  1. It is read from top to bottom: a part gets what it needs when it is made, from what stands
     above it, and nothing is set afterwards.
  2. One circle is real: what comes of a request may be a task for the workplace (``on_error``, a
     line in the log), and the workplace runs the handlers whose results are judged. So results call
     the workplace by ``run`` and ``occupy``, which find it when they are called.
  3. The owner's greenlet is made first, because it is known by what it must not wait for, and
     started last: until then nothing happens.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, TypeVar

import gevent

from ..hub.guarded import guarded
from ..messages.in_flight import InFlight
from ..messages.ledger import Ledger
from ..messages.parked import ParkedReplies
from ..messages.request import Request
from ..security.control import AccessControl
from ..settings import Settings
from ..sockets.connections import Connections
from ..sockets.router import Router
from .deadlines import Deadlines
from .failures import Failures, at_once
from .handlers import Workplace
from .links import Links
from .loop_monitor import LoopMonitor
from .mailbox import Mailbox
from .owner import Owner
from .parts import Core, Parts
from .read_ahead import ReadAhead
from .results import Results
from .settling import Settling
from .streams import Streams
from .turns import Turns
from .windows import Windows

AnyWorkplace = TypeVar("AnyWorkplace", bound=Workplace)


class Wired(NamedTuple):
    """The parts of a server that serves.

    Attributes:
        mailbox, in_flight, results, failures, workplace, owner: as their classes say.
        owning: the greenlet of the owner.
        stats: ``stats()``, what ``Server.stats`` returns.
        closing: what closes the others, in this order.
    """

    mailbox: Mailbox
    in_flight: InFlight
    results: Results
    failures: Failures
    workplace: Workplace
    owner: Owner
    owning: gevent.Greenlet[..., Any]
    stats: Callable[[], dict[str, Any]]
    closing: list[Callable[[], None]]


def make_core(
    handler: Callable[[Request], Any],
    name: str,
    settings: Settings,
    in_flight: InFlight,
    mailbox: Mailbox,
    ledger: Ledger,
    crash: Callable[[BaseException], None],
    windows: Windows,
    streams: Streams,
    connections: Connections | None,
    make_workplace: Callable[[Core], AnyWorkplace],
    *,
    seconds: float | None,
    secured: bool = False,
    asking: Callable[[Request, Callable[[], None]], None] = at_once,
    limits_on_error: bool = True,
) -> tuple[Core, AnyWorkplace]:
    """Make what handles requests, wherever they come from, and the workplace where that is done.

    Args:
        handler, name, settings, ledger, crash: as for ``wire``.
        in_flight, mailbox: the table of open requests, and where their replies go.
        windows, streams, connections: as ``Results`` has them.
        make_workplace: one of ``Parts``.
        seconds: the deadline of handlers; None for none here.
        secured: whether peers may have user ids.
        asking, limits_on_error: as ``Failures`` has them.
    """

    def run(task: Callable[[], None]) -> None:
        workplace.run(task)

    def occupy(change: int) -> None:
        workplace.occupy(change)

    inbox, turns = deque[Request](), Turns()
    settling = Settling(name, in_flight, mailbox, ledger, run)
    failures = Failures(
        name, settings, settling, in_flight, mailbox, crash, run, asking, limits_on_error
    )
    results = Results(
        name,
        settings,
        settling,
        failures,
        in_flight,
        mailbox,
        ledger,
        run,
        occupy,
        windows,
        streams,
        connections,
    )
    deadlines = Deadlines(seconds, in_flight, inbox, failures.time_out, crash)
    core = Core(
        handler,
        settings,
        secured,
        inbox,
        in_flight,
        results,
        failures,
        mailbox,
        deadlines,
        turns,
        ledger,
        crash,
    )
    workplace = make_workplace(core)
    return core, workplace


def wire(
    handler: Callable[[Request], Any],
    name: str,
    settings: Settings,
    parts: Parts,
    access: AccessControl,
    router: Router,
    proxies: Sequence[str],
    ledger: Ledger,
    crash: Callable[[BaseException], None],
) -> Wired:
    """Make the parts of a server, in the thread that serves, and let it begin.

    Args:
        handler: the user's callable.
        name: of it, for messages.
        settings: of the server.
        parts: those that may be others.
        access: who may connect.
        router: bound already.
        proxies: to connect to.
        ledger: counts.
        crash: called with what ends the server.
    """

    def serve() -> None:
        owner.run()

    def stats() -> dict[str, Any]:
        waiting = len(core.inbox) + len(ahead.requests)
        return ledger.snapshot(
            waiting=waiting,
            in_flight=ledger.unsettled - waiting,
            parked=len(parked),
            parked_bytes=parked.bytes,
            loop_lag=0.0 if loop_monitor is None else loop_monitor.lag,
            connections=len(router.connections.live),
            auth_failures=access.snapshot(),
        )

    links = Links(proxies, settings, router.connect) if proxies else None
    owning = gevent.Greenlet(guarded(serve, crash))
    mailbox, in_flight = Mailbox(crash), InFlight()
    parked = ParkedReplies(settings.max_parked_bytes_per_peer, settings.max_parked_bytes)
    streams, windows = Streams(), Windows(settings, mailbox, parked.when_clear, owning)
    core, workplace = make_core(
        handler,
        name,
        settings,
        in_flight,
        mailbox,
        ledger,
        crash,
        windows,
        streams,
        router.connections,
        parts.workplace,
        seconds=settings.handler_timeout,
        secured=router.secured,
        limits_on_error=parts.limits_on_error,
    )
    results, failures = core.results, core.failures
    ahead = ReadAhead(settings, router.connections)
    leaving = parts.on_disconnect(core)
    loop_monitor = LoopMonitor.of(
        settings, in_flight, lambda: ledger.unsettled, name, mailbox.thread
    )
    owner = Owner(
        router,
        settings,
        mailbox,
        workplace,
        in_flight,
        ledger,
        results,
        failures.in_on_error,
        crash,
        parked,
        streams,
        ahead,
        leaving,
        parts.observer(stats, loop_monitor),
        links,
    )
    owning.start()
    mailbox.ring()
    closing: list[Any] = [
        results.coroutines,
        results.questions,
        core.deadlines,
        core.turns,
        loop_monitor,
        leaving,
        router,
    ]
    return Wired(
        mailbox,
        in_flight,
        results,
        failures,
        workplace,
        owner,
        owning,
        stats,
        [part.close for part in closing if part is not None],
    )
