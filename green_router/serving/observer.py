"""The interface of an object that watches the owner.

Rules of this file
  1. It is woken once when something happens, and says by ``asleep`` when it wants to be woken
     again: the owner asks that in each of its turns, and does nothing else for it.
"""

from __future__ import annotations

from typing import Protocol


class Observer(Protocol):
    """An observer that is woken once per idle period."""

    @property
    def asleep(self) -> bool:
        """True if it is to be woken."""

    def wake(self) -> None:
        """OWNER. Something has happened."""
