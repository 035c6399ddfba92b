"""Makes the parts of a server, each of those that it needs.

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
from typing import Any, NamedTuple

import gevent

from ..hub.guarded import guarded
from ..messages.in_flight import InFlight
from ..messages.ledger import Ledger
from ..messages.parked import ParkedReplies
from ..messages.request import Request
from ..security.control import AccessControl
from ..settings import Settings
from ..sockets.router import Router
from .deadlines import Deadlines
from .failures import Failures
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

    def run(task: Callable[[], None]) -> None:
        workplace.run(task)

    def occupy(change: int) -> None:
        workplace.occupy(change)

    def stats() -> dict[str, Any]:
        waiting = len(inbox) + len(ahead.requests)
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
    mailbox, turns = Mailbox(crash), Turns()
    inbox, in_flight = deque[Request](), InFlight()
    parked = ParkedReplies(settings.max_parked_bytes_per_peer, settings.max_parked_bytes)
    streams, windows = Streams(), Windows(settings, mailbox, parked.when_clear, owning)
    settling = Settling(name, in_flight, mailbox, ledger, run)
    failures = Failures(
        name,
        settings,
        settling,
        in_flight,
        mailbox,
        crash,
        run,
        limits_on_error=parts.limits_on_error,
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
        router.connections,
    )
    ahead = ReadAhead(settings, router.connections)
    deadlines = Deadlines(settings.handler_timeout, in_flight, inbox, failures.time_out, crash)
    core = Core(
        handler,
        settings,
        router,
        access,
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
    workplace = parts.workplace(core)
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
        deadlines,
        turns,
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
