"""Callbacks and greenlets whose end somebody is told of.

Rules of this file
  1. gevent prints what a callback of the hub or a greenlet raises, and goes on: a timer is not set
     again, a batch is half done, and those who wait for it wait for ever. So each of this package's
     own has somebody who is told, and who ends what cannot go on: a request, a worker, the server.
     On the hot path that is a ``try`` of its own.
  2. What ends a greenlet on purpose (GreenletExit) is no error.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from greenlet import GreenletExit


def guarded(
    function: Callable[..., object], failed: Callable[[BaseException], object]
) -> Callable[..., None]:
    """Return a callable that does the same, but tells of an error instead of raising it.

    Args:
        function: a callback of the hub, or what a greenlet runs; its result is dropped.
        failed: ``failed(error)``, in the same greenlet.
    """

    def call(*arguments: Any) -> None:
        try:
            function(*arguments)
        except GreenletExit:
            raise
        except BaseException as error:
            failed(error)

    return call
