"""The greenlet of a handler, as gevent's functions and the application see it.

Rules of this file
  1. Greenlets are used again (handlers.py), and nobody must notice: what is said to one after its
     request has ended (``throw``, ``kill``, a ``gevent.Timeout`` that was forgotten) reaches
     nobody, and what was linked to it is called.
  2. What the application keeps with a greenlet ends with the request: attributes, links, and so
     gevent's locals, which are links. A greenlet to which anybody else holds a reference is not
     used again.
  3. It is no gevent.Greenlet, which is dearer to make and to switch to, but it has what gevent's
     functions and people ask of one; not ``get``, ``value`` and ``exception``: what became of a
     request is its reply and its fate.

How one is known to be nobody else's
  Its references are counted (sys.getrefcount), where the count is known: in the hub, when it is
  taken out of the idle ones, and behind a handler that has not blocked since. Weak references count
  too: a WeakKeyDictionary is a local. Where the interpreter does not count (PyPy), no greenlet is
  used again.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any
from weakref import getweakrefcount

import gevent.greenlet
from gevent.hub import Waiter, get_hub
from gevent.timeout import Timeout
from greenlet import GreenletExit, greenlet

from ..compiled import compiled
from ..messages.request import Request

SpawnedLink: Any = gevent.greenlet.SpawnedLink  # type: ignore[attr-defined]


def _unknown(of: object) -> int:
    """Never the same."""
    _unknown.count = count = getattr(_unknown, "count", 0) + 1  # type: ignore[attr-defined]
    return int(count)


references: Callable[[object], int] = getattr(sys, "getrefcount", _unknown)
"""How many references there are to an object, that of the call included."""


def _own() -> int:
    """How many references a function has that is called with an object, beside its caller."""

    def count(of: object) -> int:
        return references(of)

    something = object()
    return count(something) - references(something)


OWN = _own()


def left_nothing_pure(greenlet: HandlerGreenlet, count: int) -> bool:
    """HANDLER. Return whether the handler that has run in the calling greenlet has left nothing
    behind with it: no context, attribute or link, and nobody else who knows it.

    Args:
        greenlet: the calling one.
        count: ``references(greenlet)`` while nobody else knew it.
    """
    return (
        references(greenlet) - OWN == count
        and greenlet.links is None
        and greenlet.gr_context is None
        and not greenlet.__dict__
        and not getweakrefcount(greenlet)
    )


_compiled = compiled("serving._polling")
left_nothing: Callable[[Any, int], bool] = (
    left_nothing_pure if _compiled is None else _compiled.left_nothing
)


class Hold:
    """The grip of a greenlet on the request that it has in hand; the holder in the table of open
    requests.

    It is another object than the greenlet, so that a request which is answered later, or never,
    holds no greenlet.

    Attributes:
        request: what the greenlet has in hand, or None.
        greenlet: whose it is; None when that has ended.
        put_off: whether its handler has said that it is not ready, and waits to be asked again
            (until_ready.py).
    """

    __slots__ = ("greenlet", "put_off", "request")

    def __init__(self, of: HandlerGreenlet | None) -> None:
        self.greenlet: HandlerGreenlet | None = of
        self.request: Request | None = None
        self.put_off = False

    @property
    def running(self) -> bool:
        """True if its greenlet is the one that runs: all others have a frame to return to."""
        return self.greenlet is not None and self.greenlet.gr_frame is None

    def throw(self, error: BaseException) -> None:
        """HUB. Raise this in the handler."""
        if self.greenlet is not None:
            self.greenlet.throw(error)


class HandlerGreenlet(greenlet):
    """A greenlet that runs handlers, one request after the other.

    Attributes:
        hold: the request that it has in hand.
        at_work: whether it has something to do; False while it is idle, and when it has ended.
        links: what shall be called when that has been done; None for nothing.
    """

    __slots__ = ("at_work", "hold", "links")

    switch_out = None
    """For gevent, which looks for it at each switch to the hub: found sooner than missed."""

    def __init__(self, run: Callable[..., object], parent: greenlet) -> None:
        greenlet.__init__(self, run, parent)
        self.hold = Hold(self)
        self.at_work = False
        self.links: list[Callable[[Any], object]] | None = None

    def end(self) -> None:
        """HUB. End it while it is idle."""
        super().throw(GreenletExit)

    # -- what gevent's functions ask of a greenlet -------------------------------------------------

    @property
    def loop(self) -> Any:
        """The event loop of its hub."""
        return self.parent.loop  # type: ignore[union-attr]

    @property
    def minimal_ident(self) -> int:
        """A small number that no other living greenlet of the hub has, as gevent.Greenlet's."""
        number: int = get_hub().ident_registry.get_ident(self)
        return number

    @property
    def name(self) -> str:
        """A name to log, as gevent.Greenlet's."""
        return f"{type(self).__name__}-{self.minimal_ident}"

    @property
    def dead(self) -> bool:
        """True if its request has ended."""
        return not self.at_work

    def ready(self) -> bool:
        """Return whether its request has ended."""
        return self.dead

    def successful(self) -> bool:
        """Return whether its request has ended; how, is said by the request's reply and fate."""
        return self.dead

    def throw(self, *error: Any) -> Any:
        """Raise an exception in the handler; when its request has ended, nothing happens."""
        return super().throw(*error) if self.at_work else None

    def kill(
        self, exception: Any = GreenletExit, block: bool = True, timeout: float | None = None
    ) -> None:
        """Raise an exception in the handler, soon, and wait for its end; when its request has
        ended, nothing happens.

        Args:
            exception: a class or an instance. The request counts as failed, unless the handler
                catches it.
            block: whether to wait. **Blocks** the calling greenlet then.
            timeout: seconds to wait at the most.
        """
        if self.at_work:
            self.loop.run_callback(self.throw, exception)
            if block:
                self.join(timeout)

    def join(self, timeout: float | None = None) -> None:
        """Wait until its request has ended, or for so many seconds. **Blocks** the calling
        greenlet."""
        if self.dead:
            return
        waiter: Waiter[Any] = Waiter()
        self.rawlink(waiter.switch)
        try:
            with Timeout(timeout, False):  # type: ignore[arg-type]   # gevent: leave without a word
                waiter.get()
        finally:
            self.unlink(waiter.switch)

    def rawlink(self, callback: Callable[[Any], object]) -> None:
        """Let this be called with the greenlet, in the hub, when its request has ended."""
        if self.dead:
            self.loop.run_callback(callback, self)
        elif self.links is None:
            self.links = [callback]
        else:
            self.links.append(callback)

    def link(self, callback: Callable[[Any], object]) -> None:
        """Let this be called with the greenlet, in a greenlet of its own, when its request has
        ended."""
        self.rawlink(SpawnedLink(callback))

    def unlink(self, callback: Callable[[Any], object]) -> None:
        """Let this not be called."""
        if self.links and callback in self.links:
            self.links.remove(callback)


def end_handler(holder: Any, request: Request, error: BaseException) -> None:
    """HUB. Throw into whatever runs the handler of this request, if it still does."""
    if holder.request is request:
        holder.throw(error)
