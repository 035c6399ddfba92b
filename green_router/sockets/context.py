"""The ZeroMQ context: made when it is needed, ended without blocking anybody.

Rules of this file
  1. What was given is not ended here: whoever has made it does.
  2. No two threads end one context at once: that aborts the process (libzmq 4.3.5, signaler.cpp).
"""

from __future__ import annotations

import errno
from contextlib import suppress
from typing import Any

import zmq
import zmq.green
from gevent.monkey import get_original

from ..errors import ContextClosed
from ..hub.latch import Latch
from ..hub.log import Log
from ..settings import Settings
from .tuning import keep_freed_memory

log = Log("sockets")

start_new_thread = get_original("_thread", "start_new_thread")

ZERO_COPY_RECV = 10
"""A context option of libzmq that its stable header leaves out. Switched off, a frame has memory of
its own; on, every frame of 34 to 8,192 bytes keeps a shared buffer of 18 kB alive for as long as
somebody keeps the frame (libzmq#2969), and requests keep their first one, for ``peer_address``."""

TERM_MARGIN = 1.0
"""Seconds that closing a context may take beyond the linger time."""


def make_context(settings: Settings) -> zmq.Context[Any]:
    """A zmq.green context for one server."""
    keep_freed_memory()
    context = zmq.green.Context(io_threads=settings.io_threads)
    with suppress(zmq.ZMQError):  # a libzmq that does not know the option
        context.set(ZERO_COPY_RECV, 0)
    return context


def end_context(context: zmq.Context[Any], linger: float) -> None:
    """Terminate a context in an OS thread: term() blocks its caller until the last reply has left,
    or been given up.

    **Blocks** the calling greenlet only, for at most ``linger`` and a second. Where somebody else
    is at it, nothing is done: two threads in ``term`` of one context abort the process (libzmq
    4.3.5, signaler.cpp).
    """
    try:
        context.socket(zmq.PAIR, socket_class=zmq.Socket).close(0)  # a green one makes a hub here
    except zmq.ZMQError as error:
        if error.errno in (zmq.ETERM, errno.EFAULT):
            return
    ended = Latch()

    def end() -> None:
        with suppress(zmq.ZMQError):  # somebody else has ended it
            context.term()
        ended.set()

    start_new_thread(end, ())
    if not ended.wait(linger + TERM_MARGIN):
        log.warning(
            "the ZeroMQ context did not end within %g s: somebody has a socket of it open; it is "
            "left to the end of the process",
            linger + TERM_MARGIN,
        )


def explained(error: BaseException) -> BaseException:
    """Return ContextClosed in the place of what libzmq says of a socket that is closed; other
    errors as they are."""
    gone = isinstance(error, zmq.ZMQError) and error.errno in (zmq.ETERM, zmq.ENOTSOCK)
    return ContextClosed() if gone else error


class ServerContext:
    """The context of one server: its own, or the one that its settings name. Arguments:
    settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings, self._context = settings, settings.context
        self._own = settings.context is None

    def open(self) -> zmq.Context[Any]:
        """Return it; its own is made when this is called first."""
        if self._context is None:
            self._context = make_context(self._settings)
        return self._context

    def crashed(self, error: BaseException) -> BaseException:
        """Note that somebody else ends it, if this error says so; returns the error, explained."""
        if getattr(error, "errno", None) == zmq.ETERM:
            self._own = False  # a thread waits in term() just now
        return explained(error)

    def close(self) -> None:
        """End it, if it is its own and there is one. **Blocks** as ``end_context`` does."""
        context, self._context = self._context, None
        if self._own and context is not None:
            end_context(context, self._settings.linger)
