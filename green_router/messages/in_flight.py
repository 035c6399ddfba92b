"""Which requests still owe a reply, and who may give it.

Rules of this file
  1. Whoever takes a request's key out of ``open`` owns its one reply; ``dict.pop`` is atomic, so
     that is true between OS threads as well, without a lock. Reply, failure, deadline, stop: all of
     them claim first, and the losers send nothing.
  2. ``open`` holds no request, so one that nobody can answer any more is collected, and that is
     noticed: while its handler runs, the handler's greenlet holds it; after that (the handler
     returned None, or a future) only those who may still reply do.
  3. Keys stand in the order in which handlers were started, which is the order of arrival: the
     first is the oldest.
  4. ``now`` is an argument. Everything but ``claim`` and ``owes`` is for the serving thread.

The key of a request is its ``id()``: unique as long as it lives, and it lives as long as its key is
here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Protocol
from weakref import ref

from .request import Request


class Holder(Protocol):
    """The runner of a handler: it names the request that it has in hand."""

    @property
    def put_off(self) -> bool:
        """True if its handler has put the request off: it waits to be asked again, or a future
        answers it."""

    @property
    def request(self) -> Request | None:
        """The request in hand, or None."""

    @property
    def running(self) -> bool:
        """True if its handler is the one that runs in this moment."""

    def throw(self, error: BaseException) -> None:
        """HUB. End the handler."""


class NoHolder:
    """The holder of a request that no handler has, and none will."""

    request: Request | None = None
    running, put_off = False, True

    def throw(self, error: BaseException) -> None:
        """There is no handler to end."""


NO_HOLDER = NoHolder()


class Deferred(ref[Request]):
    """A reference to a request that is answered later, or never: one object for each, as tens of
    thousands may wait.

    Attributes:
        table: where it stands.
        key: of the request.
        dropped: as for ``InFlight.defer``.
    """

    __slots__ = ("dropped", "key", "table")

    table: InFlight
    key: int
    dropped: Callable[[], None]

    def collected(self) -> None:
        """ANY THREAD. The request is no more."""
        table, key = self.table, self.key
        table._deferred.pop(key, None)
        table.elsewhere.pop(key, None)
        if table.open.pop(key, None) is not None:
            self.dropped()


class InFlight:
    """The table of requests whose handlers were started and that have no reply yet.

    Attributes:
        open: key -> who runs, or ran, the handler.
        elsewhere: key -> who works for a request whose handler has returned: a coroutine, a future.
            Not only for open ones, and apart from ``open``, whose entries nobody replaces: another
            thread may claim one just then.
    """

    __slots__ = ("_deferred", "elsewhere", "open")

    def __init__(self) -> None:
        self.open: dict[int, Holder] = {}
        self.elsewhere: dict[int, Holder] = {}
        self._deferred: dict[int, Deferred] = {}

    def __len__(self) -> int:
        return len(self.open)

    def claim(self, request: Request) -> bool:
        """Take the right to settle this request; False if somebody else has it. **Thread-safe.**"""
        return self.open.pop(id(request), None) is not None

    def owes(self, request: Request) -> bool:
        """True if the request is still open. **Thread-safe.**"""
        return id(request) in self.open

    def hold(self, request: Request) -> None:
        """Open one that no handler has had, so that it can be claimed. The caller keeps it until
        then."""
        self.open[id(request)] = NO_HOLDER

    def defer(self, request: Request, dropped: Callable[[], None]) -> None:
        """Release a request that is answered later, or never.

        Args:
            request: its handler has returned.
            dropped: called, in whichever OS thread that happens, when the last reference to the
                request has gone and nobody had claimed it; it has been claimed then.
        """
        key = id(request)
        deferred = Deferred(request, Deferred.collected)
        deferred.table, deferred.key, deferred.dropped = self, key, dropped
        self._deferred[key] = deferred

    def __iter__(self) -> Iterator[Request]:
        """The open requests, oldest first. Other threads may claim meanwhile: then some that follow
        are left out."""
        try:
            for key in self.open:
                request = self._request(key)
                if request is not None:
                    yield request
        except RuntimeError:  # "dictionary changed size": a reply from another OS thread
            return

    def all(self) -> list[Request]:
        """The open requests, as they are now."""
        return [request for key in list(self.open) if (request := self._request(key)) is not None]

    def _request(self, key: int) -> Request | None:
        deferred = self._deferred.get(key)
        if deferred is not None:
            return deferred()
        holder = self.elsewhere.get(key) or self.open.get(key)
        return holder.request if holder is not None else None

    def holder(self, request: Request) -> Holder | None:
        """Return who still works for this open request, or None: the greenlet of its handler, a
        coroutine, a future.

        Whoever settles a request asks first, then claims it, and then ends the holder
        (``end_handler`` in greenlets.py)."""
        key = id(request)
        holder = self.open.get(key)
        if holder is None or holder.request is request:
            return holder
        holder = self.elsewhere.get(key)
        return holder if holder is not None and holder.request is request else None

    def overdue(self, received_before: float) -> list[Request]:
        """Open requests received before that time, oldest first; the caller claims them."""
        found = []
        for request in self:
            if request.received_at > received_before:
                break
            found.append(request)
        return found

    def oldest(self) -> Request | None:
        """The open request that was received first, or None."""
        while True:
            try:
                for key in self.open:
                    request = self._request(key)
                    if request is not None:
                        return request
                return None
            except RuntimeError:  # a reply from another OS thread, just now: look again
                continue
