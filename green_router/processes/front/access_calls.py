"""Asks a callable of the application, in a worker, who may connect: this process runs no code of
it.

Rules of this file
  1. A worker that has least in hand is asked; one that has not said yet that it gave up requests
     may be blocked, so it is the last choice. Where there is none, the call waits for one.
  2. What is lost with a worker is asked of another one.
  3. How long it may take, whoever asks decides (security/zap.py), and lets go of it.
"""

from __future__ import annotations

from typing import Any

from gevent.event import AsyncResult, Event

from ...errors import HandlerError
from ..channel import protocol
from .backend import Backend


class AccessCalls:
    """The calls that workers have not answered.

    Args:
        backends: the workers, as they come and go.
    """

    def __init__(self, backends: list[Backend]) -> None:
        self._backends = backends
        self._there = Event()
        self._asked: dict[int, tuple[Backend, Any]] = {}
        self._next_token = 0

    def ask(self, setting: str, *words: str) -> Any:
        """Return what the callable of this setting says of a client. **Blocks**.

        Raises:
            HandlerError: it has raised.
        """
        while True:
            backend = min(
                (backend for backend in self._backends if backend.open),
                key=lambda backend: (bool(backend.ending), backend.busy),
                default=None,
            )
            if backend is None:
                self._there.clear()
                self._there.wait()
                continue
            self._next_token += 1
            token = self._next_token
            result: Any = AsyncResult()
            self._asked[token] = backend, result
            try:
                backend.send([protocol.authorize(token, setting, words)])
                answer = result.get()
            finally:
                self._asked.pop(token, None)
            if answer is None:
                continue
            fine, said = answer
            if not fine:
                raise HandlerError(
                    f"the callable of {setting} has raised, in worker process {backend.pid}"
                )
            return said

    def answered(self, token: int, returned: bool, answer: Any) -> None:
        """HUB. A worker's callable has returned, or raised; maybe too late."""
        if token in self._asked:
            self._asked[token][1].set((returned, answer))

    def come(self) -> None:
        """HUB. There is a worker."""
        self._there.set()

    def lost(self, backend: Backend) -> None:
        """HUB. A worker is gone: others are asked what it was asked."""
        for asked, result in list(self._asked.values()):
            if asked is backend:
                result.set(None)
