"""The requests of a worker, by the keys by which the serving process knows them.

Rules of this file
  1. A key goes with the last reference to its request: until then it can be answered, and when
     nobody can answer it any more, its key is noted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ...messages.in_flight import InFlight
from ...messages.request import Request


class KeyedRequest(Request):
    """A request in a worker. Attributes: key, the serving process's name for it."""

    __slots__ = ("key",)

    key: int


class KeyedInFlight(InFlight):
    """A table that knows the key of a request which nobody can answer any more."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        super().__init__()
        self.dropped: deque[int] = deque()

    def defer(self, request: Request, dropped: Callable[[], None]) -> None:
        super().defer(request, partial(self._note, request.key, dropped))  # type: ignore[attr-defined]

    def _note(self, key: int, dropped: Callable[[], None]) -> None:
        """ANY THREAD. The key first: ``dropped`` puts the mail that makes the worker look for
        it."""
        self.dropped.append(key)
        dropped()

    def find(self, key: int) -> Request | None:
        """The open request of that key, or None."""
        for own_key in list(self.open):
            request = self._request(own_key)
            if request is not None and request.key == key:  # type: ignore[attr-defined]
                return request
        return None
