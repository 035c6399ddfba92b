"""Functions made with ``async def``: handlers may be, and nothing else that a greenlet calls.

Rules of this file
  1. Nothing is called to find out.
  2. Where a greenlet needs what a function returns (on_error, until_ready, offload), such a one is
     refused where it is handed over, with a sentence that says what to write.
"""

from __future__ import annotations

import functools
import inspect

from .errors import ConfigError


def refuse_async(name: str, function: object) -> None:
    """Raise ConfigError for an async function, wherever it is to be called by a greenlet."""
    if is_async(function):
        raise ConfigError(
            name,
            function,
            "made with def, not with async def: only a handler may be, because nobody waits for "
            "what it returns",
        )


def is_async(function: object) -> bool:
    """True for what gives a coroutine or an async generator when it is called: async def, a partial
    of it, an object whose ``__call__`` is."""
    while isinstance(function, functools.partial):
        function = function.func
    return callable(function) and any(
        inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called)
        for called in (function, type(function).__call__)
    )
