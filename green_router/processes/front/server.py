"""A server whose handlers run in worker processes: the serving process of ``--dispatch front``.

Rules of this file
  1. It is the ordinary Server; only what runs the handlers is another (dispatcher.py), and
     ``on_error`` and who may connect are asked in a worker.
  2. What the settings call exists before the server, and waits for workers. The dispatcher is made
     of parts of the server, which belong to the hub that serves: by ``start``.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from ...messages.request import Request
from ...serving.parts import Core, Parts
from ...settings.access import is_elsewhere
from ..channel import protocol
from .access_calls import AccessCalls
from .backend import Backend
from .dispatcher import Dispatcher
from .error_calls import ErrorCalls

ELSEWHERE = ("authorized_keys", "plain")
"""Settings whose callables are asked in workers."""


class TellWorkers:
    """Tells workers of clients that are gone. Arguments: backends, as they come and go."""

    def __init__(self, backends: list[Backend]) -> None:
        self._backends = backends

    def __call__(self, routing_id: bytes) -> None:
        """OWNER. Call on_disconnect in each worker, before what that client asks next."""
        for backend in self._backends:
            if backend.open:
                backend.send([protocol.disconnected(routing_id)])

    def close(self) -> None:
        """Nothing is open here."""


class Front:
    """The handler, the parts and the settings of a server that serves what worker processes handle.

    ::

        front = Front("app:handle_request", 128, 0, False, False, crashed, settings)
        server = Server(front.handler, front.parts, **front.settings)

    Args:
        name: of the handler, for messages.
        window, retries: as the settings ``worker_window`` and ``retry_lost``.
        explains: whether the workers have an on_error.
        tells: whether they have an on_disconnect.
        crashed: called with an error that ends the server.
        settings: of the server, without these two.
    """

    def __init__(
        self,
        name: str,
        window: int,
        retries: int,
        explains: bool,
        tells: bool,
        crashed: Callable[[BaseException], None],
        settings: dict[str, Any],
    ) -> None:
        self._window, self._retries = window, retries
        self._backends: list[Backend] = []
        self._access_calls = AccessCalls(self._backends)
        self._error_calls = ErrorCalls(self._backends, self._schedule)
        self._dispatcher: Dispatcher | None = None
        self.parts = Parts(
            name=name,
            workplace=self._make_dispatcher,
            crashed=crashed,
            limits_on_error=False,
            on_disconnect=lambda core: TellWorkers(self._backends) if tells else None,
        )
        asked = {
            name: partial(self._access_calls.ask, name)
            for name in ELSEWHERE
            if is_elsewhere(settings.get(name))
        }
        self.settings = {
            **settings,
            **asked,
            "on_error": self._error_calls.ask if explains else None,
        }

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of requests; there is one from the server's ``start`` on."""
        assert self._dispatcher is not None
        return self._dispatcher

    def handler(self, request: Request) -> Any:
        """Raise AssertionError: no handler runs in the serving process."""
        raise AssertionError("a handler was called in the serving process")

    def _make_dispatcher(self, core: Core) -> Dispatcher:
        self._dispatcher = Dispatcher(
            self._window,
            self._retries,
            core.secured,
            self._backends,
            self._access_calls,
            self._error_calls,
            core.inbox,
            core.in_flight,
            core.results,
            core.failures,
            core.mailbox,
            core.deadlines,
            core.turns,
            core.ledger,
        )
        return self._dispatcher

    def _schedule(self) -> None:
        # The one circle: the dispatcher calls on_error, and gives its calls out.
        self.dispatcher.schedule()
