"""The end of a server that was started, from the first word of it to the last descriptor.

Rules of this file
  1. Stopping stays bound (``unbind`` would cut every connection off), takes no more, waits for what was taken, for a time,
     and then closes. Nothing here blocks the hub.
  2. It begins once and ends once. Whoever asks for it again can only shorten it.
  3. A greenlet of its own does the work: whoever asked may be cut short.
  4. When nothing can leave any more, all mail that is left gets its fate, abandoned, and is not sent.
  5. A signal handler only notes; greenlets act.
"""
from __future__ import annotations

import logging
import signal
from collections.abc import Callable
from functools import partial
from time import monotonic
from typing import Any

import gevent
from gevent.event import Event
from gevent.hub import get_hub
from greenlet import getcurrent

from ..messages.ledger import ABANDONED, Ledger
from .handlers import HandlerGreenlet, Workplace
from .mailbox import Mailbox, call_in, get_ident
from .outcomes import Outcomes
from .owner import Owner

log = logging.getLogger("green_router.server")

CLAIM_SECONDS = 1.0
"""How long the end waits for an OS thread between two lines of ``Request.reply``: it needs its turn, nothing else."""


class Shutdown:
    """Ends a server. Made in the serving thread.

    Args:
        grace: seconds for what was taken, where nobody names others.
        mailbox, owner, handlers, outcomes, ledger: of the server.
        owning: the greenlet of the owner.
        begun: ``begun()``, called once when it begins.
        close: ``close()``, called once at the end: closes the rest.
    Attributes:
        crashed: whether the owner may have had something in hand when it ended.
    """

    def __init__(self, grace: float, mailbox: Mailbox, owner: Owner, handlers: Workplace, outcomes: Outcomes, ledger: Ledger,
                 owning: gevent.Greenlet[..., Any], begun: Callable[[], None], close: Callable[[], None]) -> None:
        self._grace, self._mailbox, self._owner, self._handlers = grace, mailbox, owner, handlers
        self._outcomes, self._ledger, self._owning, self._begun, self._close = outcomes, ledger, owning, begun, close
        self._hub = get_hub()
        self._began = self._signal_seen = False
        self._drained, self._ended = Event(), Event()
        self.crashed = False

    # -- asking for it ---------------------------------------------------------------------------------------------

    def stop(self, seconds: float | None) -> None:
        """Begin, or shorten the time, and wait for the end. **Blocks** the calling greenlet; **thread-safe**.

        In a handler, and in the hub, it does not wait.
        """
        if self._ended.is_set():
            return
        if get_ident() != self._mailbox.thread:
            call_in(self._hub, partial(self._stop, seconds))
        else:
            self.begin(seconds)
            if not isinstance(getcurrent(), (HandlerGreenlet, gevent.hub.Hub)):
                self.wait()

    def _stop(self, seconds: float | None) -> None:
        self.begin(seconds)
        self.wait()

    def wait(self) -> None:
        """Wait for the end, without asking for it. **Blocks** the calling greenlet, one of the serving thread."""
        self._ended.wait()

    def begin(self, seconds: float | None) -> None:
        """Serving thread. Take no more from now on; end within that time, None for ``grace``."""
        seconds = self._grace if seconds is None else seconds
        if self._began:
            gevent.spawn(self._hurry, seconds)
            return
        self._began = True
        self._begun()
        self._owner.drain(self._drained.set)
        gevent.spawn(self._run, seconds)

    def _hurry(self, seconds: float) -> None:
        if not self._ended.wait(seconds):
            self._drained.set()                     # ``_run`` waits for this

    def signalled(self, number: int) -> None:
        """SIGNAL, in whichever greenlet runs. The first one drains, the second one ends at once."""
        first, self._signal_seen = not self._signal_seen, True
        self._hub.loop.run_callback_threadsafe(gevent.spawn, self._obey, first, signal.Signals(number).name)
        if not first and isinstance(getcurrent(), HandlerGreenlet):
            # A handler that does not give way is interrupted: nothing else could end it.
            raise KeyboardInterrupt if number == signal.SIGINT else SystemExit(128 + number)

    def _obey(self, first: bool, name: str) -> None:
        log.info("%s: %s", name, "draining" if first else "ending at once")
        self._stop(None if first else 0)

    # -- doing it --------------------------------------------------------------------------------------------------

    def _run(self, seconds: float) -> None:
        if not self._drained.wait(seconds) and self._ledger.unsettled:
            log.warning("stopping: abandoned %d requests after %g s", self._ledger.unsettled, seconds)
        self._outcomes.stopped = True
        self._outcomes.abandon(self._handlers.abandon())
        self._mailbox.put(self._owner.end)
        self._owning.join()
        self._owner.close()
        self._sweep_up()
        self._handlers.close()
        self._close()
        self._ended.set()

    def _sweep_up(self) -> None:
        """Count what is left. It waits for those who are about to put mail, and for nobody else.

        What there can be: pushes that came too late; replies of OS threads that had claimed their request and not sent it
        when it was too late for that; anything, where the owner has crashed.
        """
        given_up = monotonic() + CLAIM_SECONDS
        while len(self._mailbox) or (not self.crashed and self._ledger.unsettled and monotonic() < given_up):
            if self._mailbox.empty():
                gevent.sleep(0.001)         # still behind the door, or before it
                continue
            mail = self._mailbox.get()
            if mail.__class__ is tuple:
                self._owner.sweep_up(mail)
        if self.crashed:
            self._ledger.counts[ABANDONED] += self._ledger.unsettled
