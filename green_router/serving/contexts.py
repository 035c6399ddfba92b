"""The context (contextvars) in which handlers run.

Rules of this file
  1. It is taken when the server is started: what the program has set then, handlers see. Each
     request has a copy of it, so what a handler sets is gone with its request.
  2. A copy is shallow: two requests would share, and change, the decimal module's context, which is
     an object that is changed in place. So each request has a copy of that as well. numpy's error
     state and most others are replaced, not changed, when they are set. One that says what every
     new one says is left out: each request makes its own.
  3. A program that has set nothing pays nothing: handlers then begin with an empty context.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable
from typing import Any

SAYS = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp", "traps")
"""What a decimal.Context says of how to compute; its flags only tell what has happened."""


class StartContext:
    """The context of the greenlet that makes it, to be copied for each request.

    Attributes:
        empty: whether nothing was set in it.
        copy: ``copy()`` -> the context of a request.
    """

    __slots__ = ("_context", "_decimals", "copy", "empty")

    def __init__(self) -> None:
        self._context = contextvars.Context()
        self._decimals: list[tuple[contextvars.ContextVar[Any], Any]] = []
        # Where it was not imported, nobody has a context of it.
        decimal: Any = sys.modules.get("decimal")
        for variable, value in contextvars.copy_context().items():
            if decimal is None or not isinstance(value, decimal.Context):
                self._context.run(variable.set, value)
            elif any(
                getattr(value, name) != getattr(decimal.DefaultContext, name) for name in SAYS
            ):
                self._decimals.append((variable, value))
        self.empty = not len(self._context) and not self._decimals
        self.copy: Callable[[], contextvars.Context] = (
            self._copy_all if self._decimals else self._context.copy
        )

    def _copy_all(self) -> contextvars.Context:
        context = self._context.copy()
        for variable, value in self._decimals:
            context.run(variable.set, value.copy())
        return context
