"""Where functions are called: ``threads:32``, ``processes:8``, ``dask:tcp://scheduler:8786``; and
``offload``, which calls them.

Rules of this file
  1. An engine is an executor that is named by a text. There is one of each name in a process,
     started by its first call.
  2. The engine of the service is that of ``green-router serve --offload``. Nothing is guessed where
     there is none.
  3. What the executor gets is plain data: the arguments. What it gives is a future, and no greenlet
     waits for it but one that asks.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from concurrent.futures import Executor
from functools import wraps
from typing import Any

from ..async_functions import refuse_async
from ..errors import ConfigError, StateError
from ..settings.kinds import Engine


def check_engine(text: str) -> str:
    """Return the name of an engine. Raises ConfigError for what is none."""
    try:
        return Engine().check(text, "offload")
    except (TypeError, ValueError):
        raise ConfigError("offload", text, Engine().rule) from None


class Engines:
    """The engines of this process, by their names. Attributes: default, the name of the service's,
    or None."""

    def __init__(self) -> None:
        self.default: str | None = None
        self._known: dict[tuple[int, str], Executor] = {}

    def get(self, text: str | None) -> Executor:
        """Return the engine of that name, or the service's. Raises ConfigError and StateError."""
        text = self.default if text is None else text
        if text is None:
            raise StateError(
                "nothing says where to call it: green-router serve --offload processes:8, or "
                'offload(function, "processes:8")'
            )
        key = os.getpid(), text
        known = self._known.get(key)
        if known is None:
            if not self._known:
                atexit.register(self.close)
            known = self._known.setdefault(key, _make(check_engine(text)))
        return known

    def close(self) -> None:
        """End all of this process: what has not begun is cancelled, processes are ended. **Blocks**
        the calling greenlet."""
        for (pid, _), engine in list(self._known.items()):
            if pid == os.getpid():
                engine.shutdown(wait=True, cancel_futures=True)
        self._known.clear()


def _make(name: str) -> Executor:
    kind, _, rest = name.partition(":")
    if kind == "threads":
        from .threads import Threads

        return Threads(int(rest))
    if kind == "processes":
        from .processes import Processes

        return Processes(int(rest))
    from .cluster import Cluster

    return Cluster(rest)


ENGINES = Engines()


def offload(
    function: Callable[..., Any], executor: Executor | str | None = None
) -> Callable[..., Any]:
    """Have a function called in other threads, processes, or on other machines.

    ::

        count = offload(count_primes, "processes:4")

        def handle_request(request):
            return count(int(request.data))  # a future: the reply leaves when it is done

    Args:
        function: called there. For processes and machines it is found by its name, in a module that
            they can import, and what it gets and gives is pickled: plain data.
        executor: ``"threads:N"``, native threads; ``"processes:N"``, unpatched processes of this
            one; ``"dask:ADDRESS"``, a cluster; anything with ``submit(function, ...)`` that returns
            a future, which is not shut down here; None for what ``green-router serve --offload``
            says.
    Returns:
        A function of the same arguments that returns a future. As a handler it is given the
        request; processes get a copy. ``future.result()`` lets others go on while it waits, where
        the executor is one of the named ones.
    Raises:
        ConfigError: there is no such engine, or the function is async.

    The future fails with OffloadFailed where the call could not be made, or its process ended. When
    a request is settled (``handler_timeout``), the future that its handler has returned is
    cancelled: what has not begun will not.
    """
    if hasattr(function, "submit"):
        raise ConfigError(
            "offload", function, "called with the function first: offload(function, executor)"
        )
    refuse_async("offload", function)
    if isinstance(executor, str):
        check_engine(executor)

    @wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        engine = (
            ENGINES.get(executor) if executor is None or isinstance(executor, str) else executor
        )
        return engine.submit(function, *arguments, **named)

    return call
