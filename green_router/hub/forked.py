"""The life of a forked child: whatever serves in this process is disarmed in a process that is
forked from it.

Rules of this file
  1. A child serves nobody. Nothing of ours runs in it; for the parent nothing is read, written,
     removed or shut down; its signals mean what they meant before the server began. Descriptors
     that only the parent needs are closed.
  2. Whoever arms something (a watcher, a timer, a signal) says so with ``arm``, once, and takes it
     back in ``disarm``. What was armed last is disarmed first. Nothing is kept alive by it, and in
     the parent it costs nothing until a fork.
  3. Loops first: a watcher that is stopped while its loop still shares the kernel's epoll set with
     the parent would be stopped in the parent.
  4. Signals wait from before the fork until all is disarmed. One that came in between would be
     forgotten by Python, or be taken for the parent's: whoever forks a child and ends it at once
     would wait for it for ever.
  5. A greenlet that was in the middle of the application's code neither goes on in the child nor
     unwinds, as no other thread does after a fork: a second ``finally`` would roll back, say, the
     transaction of the parent.

Children that exec at once (subprocess, os.posix_spawn) are no concern of this file: Python runs
nothing in them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable
from itertools import count
from typing import Any, Protocol
from weakref import WeakSet, WeakValueDictionary, ref

import gevent
import greenlet
from gevent.hub import get_hub
from gevent.monkey import get_original

from .log import Log

log = Log("server")

get_ident = get_original("_thread", "get_ident")


class Armed(Protocol):
    """Whatever would act by itself in a forked child."""

    def disarm(self) -> None:
        """In a forked child, in whichever thread has forked: act no more. What belongs to the
        parent stays as it is."""


_armed: WeakValueDictionary[int, Armed] = WeakValueDictionary()
_order = count()
_hubs: WeakSet[gevent.hub.Hub] = WeakSet()
_greenlets: WeakSet[greenlet.greenlet] = WeakSet()
_masks: dict[int, Iterable[int]] = {}
_held: set[greenlet.greenlet] = set()


def arm(thing: Armed) -> None:
    """Have a thing disarmed in forked children, for as long as it lives. In the thread whose hub it
    uses.

    Harmless when repeated.
    """
    _hubs.add(get_hub())
    # ``valuerefs`` is a list made at once: while ``values`` goes on, another thread may arm
    # something.
    if all(known() is not thing for known in _armed.valuerefs()):
        _armed[next(_order)] = thing


def spawn(function: Callable[..., object], *arguments: Any) -> gevent.Greenlet[..., Any]:
    """Spawn a greenlet of ours that could wake by itself: in forked children it is held."""
    spawned = gevent.spawn(function, *arguments)
    _greenlets.add(spawned)
    return spawned


def hold(greenlets: Iterable[greenlet.greenlet]) -> None:
    """In a forked child: whoever wakes one of these greenlets from now on goes on at once, and they
    do not.

    They are kept for ever: one that is collected would unwind.
    """
    here = greenlet.getcurrent()
    held = [
        each
        for each in greenlets
        if not each.dead and each is not here and _root(each) is _root(here)
    ]
    if held and not _held:
        _tracer.before = greenlet.gettrace()
        greenlet.settrace(_tracer)
    _held.update(held)


def _root(of: greenlet.greenlet) -> greenlet.greenlet:
    """The main greenlet of its thread: no other thread has survived the fork."""
    while of.parent is not None:
        of = of.parent
    return of


def tell_if_it_goes_on(server: ref[Any], parent: int) -> None:
    """In a forked child: log that it does not serve, when its loop first turns, if that child is
    none of multiprocessing's.

    Not in the fork itself: what logs may need a lock whose thread is no more, and most children
    have no use for it.
    """

    def tell() -> None:
        from multiprocessing import parent_process  # here: few programs need it

        if parent_process() is None:
            log.warning(
                "%r was started in process %d, before this one was forked from it, and serves "
                "there only; to serve in this process, too, start a server after the fork, as in "
                "a web server's post-fork hook",
                server(),
                parent,
            )

    if any(hub.thread_ident == get_ident() for hub in _hubs):
        gevent.spawn(tell)


class _Tracer:
    """Called with every switch between greenlets, in the one that is switched to: only where some
    are held."""

    before: Callable[[Any, Any], object] | None = None

    def __call__(self, event: str, switch: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
        origin, target = switch
        while target in _held:
            # Within call_tracing profilers and debuggers go on: this call, in which they are off,
            # never returns.
            sys.call_tracing((get_hub() if origin.dead else origin).switch, ())
        if self.before is not None:
            self.before(event, switch)


_tracer = _Tracer()


# -- around a fork ---------------------------------------------------------------------------------


def _before() -> None:
    if _armed:
        _masks[get_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())


def _after_in_parent() -> None:
    mask = _masks.pop(get_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_in_child() -> None:
    try:
        if _armed:
            for hub in _hubs:
                if hub.loop is not None:  # it was not destroyed
                    hub.loop.reinit()
            hold(_greenlets)
            for _, thing in sorted(_armed.items(), reverse=True):
                _disarm(thing)
            _armed.clear()
    finally:
        _after_in_parent()
        _masks.clear()


def _disarm(thing: Armed) -> None:
    """Disarm a server; one that fails keeps no other armed."""
    try:
        thing.disarm()
    except Exception:
        # No logging: another thread may have held its lock, or its stream's.
        sys.excepthook(*sys.exc_info())


os.register_at_fork(
    before=_before, after_in_parent=_after_in_parent, after_in_child=_after_in_child
)
