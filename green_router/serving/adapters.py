"""Handlers of other shapes.

Rules of this file
  1. An adapter is an ordinary handler around a callable; the server knows nothing of it.
"""
from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import wraps
from typing import Any

from ..async_functions import refuse_async
from ..messages.request import Request


def offload(executor: Executor, function: Callable[..., Any]) -> Callable[[Request], Any]:
    """Run a handler in the threads or processes of an executor; no greenlet waits for it.

    Args:
        executor: anything with ``submit(function, argument)`` that returns a future: ThreadPoolExecutor,
            ProcessPoolExecutor, gevent's ThreadPoolExecutor. It is not shut down here.
        function: called there with the request; for processes, with a copy of it (plain data).
    Returns:
        A handler. What ``function`` returns is the reply; None is no reply.

    Under ``gevent.monkey.patch_all()`` the threads of a ThreadPoolExecutor are greenlets, and ProcessPoolExecutor does
    not work at all: use ``gevent.threadpool.ThreadPoolExecutor`` for real threads there.
    """
    refuse_async("offload", function)

    @wraps(function)
    def handle(request: Request) -> Any:
        return executor.submit(function, request)

    return handle
