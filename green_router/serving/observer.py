"""Who looks on while the owner works.

Rules of this file
  1. It is woken once when something happens, and says by ``asleep`` when it wants to be woken again: the owner asks that
     in each of its turns, and does nothing else for it.
"""
from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """Who wants to know when something happens, and not to be told twice: a watchdog, a pulse."""

    @property
    def asleep(self) -> bool:
        """Whether it wants to know."""

    def wake(self) -> None:
        """OWNER. Something has happened."""
