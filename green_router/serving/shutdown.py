"""The end of a server that was started, from the first word of it to the last descriptor.

Rules of this file
  1. Stopping stays bound (``unbind`` would cut every connection off), takes no more, waits for what
     was taken, for a time, and then closes. Nothing here blocks the hub.
  2. It begins once and ends once. Whoever asks for it again can only shorten it.
  3. A greenlet of its own does the work: whoever asked may be cut short.
  4. When nothing can leave any more, all mail that is left gets its fate, abandoned, and is not
     sent.
  5. A signal handler only notes; greenlets act.
  6. Where the serving thread cannot run a greenlet any more, because it has ended or its hub was
     destroyed, a thread closes what is open: whoever waits is told all the same.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from itertools import count
from time import monotonic
from typing import Any
from weakref import ref

import gevent
from gevent.event import Event
from gevent.hub import Hub, get_hub
from gevent.monkey import get_original
from greenlet import GreenletExit, getcurrent

from ..errors import ContextClosed
from ..hub import forked
from ..hub.guarded import guarded
from ..hub.latch import Latch
from ..hub.log import Log
from ..messages.in_flight import Holder
from ..messages.ledger import ABANDONED, Ledger
from .asyncio_thread import runs_here
from .greenlets import HandlerGreenlet, end_handler
from .mailbox import get_ident
from .wiring import Wired

log = Log("server")

CLAIM_SECONDS = 1.0
"""How long the end waits for an OS thread between two lines of ``Request.reply``: it needs its
turn, nothing else."""


start_new_thread = get_original("_thread", "start_new_thread")

threads_own: Any = get_original("_thread", "_local")()
"""What each OS thread has for itself: it is let go when the thread ends."""


class ThreadEnd:
    """Calls back when the OS thread that made it ends, from that thread, which alone keeps it. In a
    forked child nothing is called.

    Args:
        ended: ``ended()``; no greenlet can run there any more.
    """

    def __init__(self, ended: Callable[[], None]) -> None:
        self._ended: Callable[[], None] | None = ended
        self._pid = os.getpid()
        if not hasattr(threads_own, "ends"):
            threads_own.ends = set()
        threads_own.ends.add(self)

    def forget(self) -> None:
        """In that thread. It is of no interest any more."""
        self._ended = None
        threads_own.ends.discard(self)

    def __del__(
        self, ending: Callable[[], bool] = sys.is_finalizing, getpid: Callable[[], int] = os.getpid
    ) -> None:
        if self._ended is not None and not ending() and getpid() == self._pid:
            self._ended()


def say_drain(
    to: Log,
    cause: str,
    seconds: float,
    requests: int,
    parked: int,
    at_work: int = 0,
    silent: int = 0,
) -> None:
    """Log what a drain waits for. As a warning, if for anything: a program that sets up no log sees
    those on its standard error."""
    waits_for = [
        f"{number} {one if number == 1 else many}"
        for number, one, many in (
            (requests, "request in flight", "requests in flight"),
            (parked, "parked reply", "parked replies"),
            (at_work, "handler at work after its reply", "handlers at work after their replies"),
            (silent, "worker whose loop does not turn", "workers whose loops do not turn"),
        )
        if number
    ]
    if waits_for:
        to.warning(
            "%s: draining, for %g s at the most: %s; a second signal ends it now",
            cause,
            seconds,
            ", ".join(waits_for),
        )
    else:
        to.info("%s: draining; nothing is in flight", cause)


def end_handlers(name: str, running: Sequence[Holder]) -> None:
    """End handlers that are at work after their replies, soon, and log that.

    Args:
        name: of the handler.
        running: who has them in hand.
    """
    requests = [each.request for each in running if each.request is not None]
    if not requests:
        return
    loop = get_hub().loop
    for hold, request in zip(running, requests, strict=True):
        loop.run_callback(end_handler, hold, request, GreenletExit())
    # A log that is kept would keep the request.
    oldest = repr(min(requests, key=lambda request: request.received_at))
    gevent.spawn(
        log.warning,
        "stopping: cut off %d of %s at work after the reply, the oldest on %s",
        len(requests),
        name,
        oldest,
    )


class Shutdown:
    """Ends a server. Made in the serving thread.

    Args:
        name: of the handler.
        grace: seconds for what was taken, where nobody names others.
        wired: the parts of the server.
        ledger: its own.
        begun: ``begun()``, called once when it begins.
        closing: what closes the rest, called in this order behind what closes the parts.
        ended: is set when all is done.
    Attributes:
        error: what has broken the server, if anything has; then the owner may have had something in
            hand when it ended.
    """

    def __init__(
        self,
        name: str,
        grace: float,
        wired: Wired,
        ledger: Ledger,
        begun: Callable[[], None],
        closing: Sequence[Callable[[], None]],
        ended: Latch,
    ) -> None:
        self._name, self._grace, self._ledger, self._begun = name, grace, ledger, begun
        self._mailbox, self._owner, self._owning = wired.mailbox, wired.owner, wired.owning
        self._handlers, self._results = wired.workplace, wired.results
        self._closing, self._ended = (*wired.closing, *closing), ended
        self._hub = get_hub()
        self._began = self._signal_seen = False
        self._burials = count()
        self._done = Event()
        self._thread_end = ref(
            ThreadEnd(partial(self._cannot_run, "the thread that served has ended without stop"))
        )
        self.error: BaseException | None = None
        forked.arm(self)

    # -- asking for it -----------------------------------------------------------------------------

    def stop(self, seconds: float | None) -> None:
        """Begin, or shorten the time, and wait for the end. **Blocks** the calling greenlet;
        **thread-safe**.

        In a handler, a coroutine too, and in a hub, it does not wait.
        """
        if self._ended.done:
            return
        loop = self._hub.loop
        if loop is not None and get_ident() == self._mailbox.thread:
            self.begin(seconds)
        else:
            try:
                loop.run_callback_threadsafe(gevent.spawn, self.begin, seconds)
            except (AttributeError, ValueError):  # none, or one that is destroyed meanwhile
                self._cannot_run("the hub of the thread that served was destroyed")
        if not isinstance(getcurrent(), (HandlerGreenlet, Hub)) and not runs_here():
            self._ended.wait()

    def begin(self, seconds: float | None) -> None:
        """Serving thread. Take no more from now on; end within that time, None for ``grace``."""
        seconds = self._grace if seconds is None else seconds
        if self._began:
            forked.spawn(self._hurry, seconds)
            return
        self._began = True
        self._begun()
        self._owner.drain(self._nothing_left)
        forked.spawn(guarded(self._run, self._failed), seconds)

    def _nothing_left(self) -> None:
        """OWNER, whenever all that was taken has its fate. Handlers may be at work after their
        replies."""
        if self._handlers.quiet(self._mailbox.ring):
            self._done.set()

    def _hurry(self, seconds: float) -> None:
        if not self._ended.wait(seconds):
            self._done.set()  # ``_run`` waits for this

    def crash(self, error: BaseException, awaited: bool) -> None:
        """Serving thread. Stop at once because of this.

        A SystemExit or KeyboardInterrupt asks the program to end, not the server: where nobody
        would raise it, it goes to the thread's main greenlet, as gevent's hub sends it there, and a
        server that it left whole serves on.

        Args:
            awaited: whether somebody waits for the end and raises ``error``.
        """
        ends_program = isinstance(error, (SystemExit, KeyboardInterrupt))
        if ends_program and not awaited:
            hub: Any = self._hub
            hub.loop.run_callback(hub.handle_system_error, type(error), error, error.__traceback__)
            if isinstance(getcurrent(), HandlerGreenlet):
                return
        if self.error is not None:
            return
        self.error = error
        gevent.spawn(self.begin, 0)
        if ends_program:
            say = partial(log.error, "stopping: %s in a handler", type(error).__name__)
        elif isinstance(error, ContextClosed):
            say = partial(log.critical, "stopping: %s", error)
        else:
            say = partial(log.critical, "stopping: an error outside handlers", error=error)
        # In a greenlet: the end waits for the owner, which may be the one that has crashed.
        gevent.spawn(say)

    def signalled(self, number: int) -> None:
        """SIGNAL, in whichever greenlet runs. The first one drains, the second one ends at once."""
        first, self._signal_seen = not self._signal_seen, True
        self._hub.loop.run_callback_threadsafe(
            forked.spawn, self._obey, first, signal.Signals(number).name
        )
        if not first and isinstance(getcurrent(), HandlerGreenlet):
            # A handler that does not give way is interrupted: nothing else could end it.
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _obey(self, first: bool, name: str) -> None:
        if first:
            gevent.spawn(
                say_drain,
                log,
                name,
                self._grace,
                self._ledger.unsettled,
                len(self._owner.parking.outbox),
                len(self._after_reply()),
            )
        else:
            gevent.spawn(log.info, "%s: ending at once", name)
        self.begin(None if first else 0)

    def disarm(self) -> None:
        """In a forked child: nothing here is ended."""
        self._began = True

    # -- doing it ----------------------------------------------------------------------------------

    def _run(self, seconds: float) -> None:
        begun = monotonic()
        self._done.wait(seconds)
        if self._ledger.unsettled:
            gevent.spawn(
                log.warning,
                "stopping: abandoned %d requests of %s after %.3g s",
                self._ledger.unsettled,
                self._name,
                monotonic() - begun,
            )
        self._results.stop()
        end_handlers(self._name, self._after_reply())
        self._results.abandon([*self._handlers.abandon(), *self._owner.ahead.abandon()])
        self._mailbox.put(self._owner.end)
        self._owning.join()
        self._owner.close()
        self._sweep_up()
        self._handlers.close()
        for close in self._closing:
            close()
        thread_end = self._thread_end()
        if thread_end is not None:
            thread_end.forget()
        self._ended.set()

    def _after_reply(self) -> list[Holder]:
        """Handlers that have replied and are still at work."""
        return [
            each
            for each in self._handlers.at_work()
            if each.request is not None and self._results.replied(each.request)
        ]

    def _sweep_up(self) -> None:
        """Count what is left. It waits for those who are about to put mail, and for nobody else.

        What there can be: pushes that came too late; replies of OS threads that had claimed their
        request and not sent it when it was too late for that; anything, where the owner has
        crashed.
        """
        given_up = monotonic() + CLAIM_SECONDS
        while len(self._mailbox) or (
            self.error is None and self._ledger.unsettled and monotonic() < given_up
        ):
            if self._mailbox.empty():
                gevent.sleep(0.001)  # still in the queue of other threads, or before it
                continue
            mail = self._mailbox.get()
            if mail.__class__ is tuple:
                self._owner.undelivered.sweep_up(mail)
        if self.error is not None:
            self._ledger.counts[ABANDONED] += self._ledger.unsettled

    def _failed(self, error: BaseException) -> None:
        """Close what is open although stopping has failed, so that nobody waits for ever."""
        self.error = self.error or error
        log.critical("an error while the server stopped", error=error)
        self._bury("not everything could be finished")

    # -- where it cannot be done -------------------------------------------------------------------

    def _cannot_run(self, why: str) -> None:
        """ANY THREAD. The serving thread will run no greenlet any more."""
        if not self._ended.done and next(self._burials) == 0:
            start_new_thread(self._bury, (why,))

    def _bury(self, why: str) -> None:
        """ANY THREAD. Close what is open, each for itself: what belongs to a loop that was
        destroyed cannot be closed."""
        lost = self._ledger.unsettled
        for close in (
            self._results.give_up,
            self._handlers.abandon,
            self._owner.ahead.abandon,
            self._mailbox.discard,
            self._begun,
            self._owner.close,
            self._handlers.close,
            *self._closing,
        ):
            with suppress(Exception):
                close()
        self._ledger.counts[ABANDONED] += self._ledger.unsettled
        self._ended.set()
        log.error("stopped: %s; abandoned %d requests", why, lost)
