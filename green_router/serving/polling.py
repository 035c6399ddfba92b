"""Asks a handler about pending requests, one after the other: compiled, or in Python.

Rules of this file
  1. It goes on while all is as it is mostly: the handler is not ready, and leaves nothing behind.
     Whatever else there is, the caller sees to (asking.py).
  2. Whichever serves, the interface is the same, and so are the results and the errors: those of
     ``PureAskedFields`` and ``poll_pending_pure``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Protocol

from gevent.event import AsyncResult

from ..compiled import compiled
from ..messages.request import Request
from .greenlets import HandlerGreenlet, left_nothing_pure, references

_compiled = compiled("serving._polling")


class PureAskedFields:
    """The fields of a request that waits of which each question has need.

    Attributes:
        request: None when nobody waits for it any more.
        greenlet: in which it is being asked about.
        context: of its handler; None where that has set nothing.
        waiter: of a greenlet that called the handler itself, and gets what it returns.
    """

    __slots__ = ("context", "greenlet", "request", "waiter")

    context: Context | None
    greenlet: HandlerGreenlet | None
    request: Request | None
    waiter: AsyncResult[Any] | None


if TYPE_CHECKING or _compiled is None:
    AskedFields = PureAskedFields
else:
    AskedFields = _compiled.CompiledAskedFields


class Current(Protocol):
    """The part of Asking that tells which greenlet asks."""

    current: HandlerGreenlet | None
    """The greenlet that asks in this moment; None, or another one, when that has blocked."""


Found = tuple[Any, "Request | None", Any, "BaseException | None"]


def poll_pending_pure(
    left: Iterator[AskedFields],
    handle: Callable[[Any], Any],
    greenlet: Any,
    asking: Current,
    open_: dict[int, Any],
    steady: bool,
    until: float,
    clock: Callable[[], float],
) -> Found | None:
    """HANDLER. Ask about each of these, up to the first about which there is something to be done.

    Args:
        left: those to ask about; somebody else may go on with it while the handler blocks.
        handle: the handler.
        greenlet: the calling one, a HandlerGreenlet.
        asking: likewise.
        open_: the keys of the requests that are owed a reply.
        steady: whether there is nothing to be done about one that is not ready; False stops behind
            the first.
        until, clock: the time up to which questions may begin, in seconds, and by what.
    Returns:
        (asked, request, result, error), or None when all were asked. The request is None where the
        handler was not asked: no reply is owed, or it is just being asked about. Else
        ``asked.greenlet`` is still the calling one, and the error is what the handler has raised.
    """
    alone = references(greenlet) + 1  # that of the one who is asked about
    for asked in left:
        request = asked.request
        if (
            request is None
            or (id(request) not in open_ and asked.waiter is None)
            or asked.greenlet is not None
        ):
            return asked, None, None, None
        asked.greenlet, greenlet.hold = greenlet, asked
        if asked.context is not None:
            greenlet.gr_context = asked.context
        try:
            result = handle(request)
        except BaseException as error:
            return asked, request, None, error
        if (
            not steady
            or result is not None
            or not left_nothing_pure(greenlet, alone)
            or asking.current is not greenlet
            or clock() >= until
        ):
            return asked, request, result, None
        asked.greenlet = None
    return None


poll_pending: Callable[..., Found | None] = (
    poll_pending_pure if _compiled is None else _compiled.poll_pending
)
