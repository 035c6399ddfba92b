"""Source files that change while they are used: for ``--reload``.

Rules of this file
  1. It looks at the files from time to time, as the notice that the kernel could give depends on
     the file system. For development, so a look each half second costs nobody anything.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import gevent

WATCH_EVERY = 0.5
"""Seconds between two looks."""


class Sources:
    """The source files of this process's application: those of its modules that were not
    installed."""

    def __init__(self) -> None:
        package = str(Path(__file__).parents[2])
        self._installed = tuple(
            {os.path.realpath(path) + os.sep for path in (sys.prefix, sys.base_prefix, package)}
        )
        self._modules: set[str] = set()
        self._files: set[str] = set()

    def new(self) -> list[str]:
        """Return the source files that were loaded since this was called last."""
        names = sys.modules.keys() - self._modules
        self._modules |= names
        paths = [getattr(sys.modules.get(name), "__file__", None) for name in names]
        files = {os.path.realpath(path) for path in paths if isinstance(path, str)}
        new = {
            path for path in files if path.endswith(".py") and not path.startswith(self._installed)
        } - self._files
        self._files |= new
        return sorted(new)


class Reloader:
    """Notices when one of the noted files is written.

    Args:
        changed: ``changed(paths)``, called in the watching greenlet.
    """

    def __init__(self, changed: Callable[[list[str]], None]) -> None:
        self._changed = changed
        self._files: dict[str, int] = {}

    def note(self, paths: Iterable[str]) -> None:
        """Watch these too, as they are now."""
        for path in paths:
            if path not in self._files:
                self._files[path] = changed_at(path)

    def watch(self) -> None:
        """A greenlet. For ever."""
        while True:
            gevent.sleep(WATCH_EVERY)
            changed = [path for path, before in self._files.items() if changed_at(path) != before]
            if changed:
                for path in changed:
                    self._files[path] = changed_at(path)
                self._changed(changed)


def changed_at(path: str) -> int:
    """When a file was written last, in nanoseconds; 0 for none."""
    try:
        return os.stat(path).st_mtime_ns
    except OSError:
        return 0
