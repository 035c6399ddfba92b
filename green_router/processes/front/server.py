"""A server whose handlers run in worker processes: the serving process of ``--dispatch front``.

Rules of this file
  1. It is the ordinary Server; only what runs the handlers is another (dispatcher.py), and
     ``on_error`` and who may connect are asked in a worker.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import zmq

from ...messages.request import Request
from ...serving.parts import Core, Parts
from ...settings.access import is_elsewhere
from .dispatcher import Dispatcher

ELSEWHERE = ("authorized_keys", "plain")
"""Settings whose callables are asked in workers."""


class TellWorkers:
    """Tells the workers of clients that are gone. Arguments: dispatcher, who knows them."""

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher

    def __call__(self, routing_id: bytes) -> None:
        self._dispatcher.tell_gone(routing_id)

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
        self._dispatcher: Dispatcher | None = None
        self.parts = Parts(
            name=name,
            workplace=self._make_dispatcher,
            crashed=crashed,
            limits_on_error=False,
            on_disconnect=lambda core: TellWorkers(self.dispatcher) if tells else None,
        )
        asked = {
            name: partial(self._ask_who, name)
            for name in ELSEWHERE
            if is_elsewhere(settings.get(name))
        }
        self.settings = {**settings, **asked, "on_error": self._call_on_error if explains else None}

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of requests; there is one from the server's ``start`` on."""
        assert self._dispatcher is not None
        return self._dispatcher

    def handler(self, request: Request) -> Any:
        """Raise AssertionError: no handler runs in the serving process."""
        raise AssertionError("a handler was called in the serving process")

    def _make_dispatcher(self, core: Core) -> Dispatcher:
        socket = core.router.socket
        secured = (
            core.access.restricts
            or bool(socket.getsockopt(zmq.ZAP_DOMAIN))
            or socket.getsockopt(zmq.MECHANISM) != zmq.NULL
        )
        self._dispatcher = Dispatcher(
            self._window,
            self._retries,
            secured,
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

    def _call_on_error(self, request: Request, error: BaseException) -> bytes | list[bytes] | None:
        return self.dispatcher.call_on_error(request, error)

    def _ask_who(self, setting: str, *words: str) -> Any:
        """A greenlet. Who may connect, the application says, in a worker."""
        return self.dispatcher.access_calls.ask(setting, words)
