"""The log of this package: the one place that writes to it.

Rules of this file
  1. Logging cannot fail. Objects without words, filters and handlers that raise, a recursion
     without end: something is written all the same, and whoever logs goes on. What ends a greenlet
     or the process (GreenletExit, KeyboardInterrupt) does.
  2. In the hub nothing may wait, and handlers of the application may: from there a greenlet of its
     own logs.
  3. Whoever logs does first what must be done: a handler may wait for as long as it likes.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import gevent
from gevent.hub import Hub
from greenlet import getcurrent


def words(value: object, form: Callable[[Any], str] = str) -> str:
    """Return the text of an object, whatever its own code does: ``str`` of it, or what else the
    form makes."""
    try:
        return form(value)
    except Exception as error:
        return f"<{type(value).__name__}, which has no words: {type(error).__name__}>"


class Log:
    """A logger of this package, by its last name. The methods are those of logging.Logger, for
    literal texts."""

    __slots__ = ("_logger",)

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(f"green_router.{name}")

    def debug(self, text: str, *arguments: object) -> None:
        """Log what is of interest to those who look for something."""
        self._log(logging.DEBUG, text, arguments, None)

    def info(self, text: str, *arguments: object) -> None:
        """Log what has happened as it should."""
        self._log(logging.INFO, text, arguments, None)

    def warning(self, text: str, *arguments: object) -> None:
        """Log what somebody should know."""
        self._log(logging.WARNING, text, arguments, None)

    def error(self, text: str, *arguments: object, error: BaseException | None = None) -> None:
        """Log what has failed, with the traceback of an error."""
        self._log(logging.ERROR, text, arguments, error)

    def critical(self, text: str, *arguments: object, error: BaseException | None = None) -> None:
        """Log what ends the whole."""
        self._log(logging.CRITICAL, text, arguments, error)

    def _log(
        self, level: int, text: str, arguments: tuple[object, ...], error: BaseException | None
    ) -> None:
        try:
            if not self._logger.isEnabledFor(level):
                return
            if isinstance(getcurrent(), Hub):
                gevent.spawn(self._write, level, text, arguments, error)
                return
        except Exception:  # no memory for a greenlet: then here
            pass
        self._write(level, text, arguments, error)

    def _write(
        self, level: int, text: str, arguments: tuple[object, ...], error: BaseException | None
    ) -> None:
        try:
            if not _shows(partial(text.__mod__, arguments)):
                arguments = tuple(map(_with_words, arguments))
            if error is not None and not _shows(
                partial(traceback.format_exception, type(error), error, error.__traceback__)
            ):
                error = None
            exc_info = None if error is None else (type(error), error, error.__traceback__)
            self._logger.log(level, text, *arguments, exc_info=exc_info, stacklevel=4)
        except Exception as reason:
            with suppress(Exception):
                sys.stderr.write(
                    f"{self._logger.name}: {text % arguments} (not logged: {words(reason, repr)})\n"
                )


def _shows(attempt: Callable[[], object]) -> bool:
    try:
        attempt()
    except Exception:
        return False
    return True


def _with_words(value: object) -> object:
    """The same, or what can be shown in its place."""
    if _shows(partial(str, value)) and _shows(partial(repr, value)):
        return value
    return words(value)
