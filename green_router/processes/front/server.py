"""A server whose handlers run in worker processes: the serving process of ``--dispatch front``.

Rules of this file
  1. It is the ordinary Server; only what runs the handlers is another (dispatcher.py), and ``on_error`` is asked in a
     worker.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import zmq

from ...messages.in_flight import InFlight
from ...messages.request import Request
from ...serving.deadlines import Deadlines
from ...serving.mailbox import Mailbox
from ...serving.results import Results
from ...serving.server import Server
from ...serving.turns import Turns
from ...settings.access import is_elsewhere
from .dispatcher import Dispatcher

ELSEWHERE = ("authorized_keys", "plain")
"""Settings whose callables are asked in workers."""


class FrontServer(Server):
    """Serves what worker processes handle.

    Args:
        name: of the handler, for messages.
        window, retries: as the settings ``worker_window`` and ``retry_lost``.
        explains: whether the workers have an on_error.
        crashed: called with an error that ends the server.
        settings: of the server, without on_error.
    """

    _awaited = True         # by ``crashed``

    def __init__(self, name: str, window: int, retries: int, explains: bool, crashed: Callable[[BaseException], None],
                 **settings: Any) -> None:
        self._crashed = crashed
        asked = {name: partial(self._ask_who, name) for name in ELSEWHERE if is_elsewhere(settings.get(name))}
        super().__init__(self._not_here, **{**settings, **asked}, on_error=self._explain if explains else None)
        self._name = name
        self._window, self._retries = window, retries

    @property
    def dispatcher(self) -> Dispatcher:
        """The dispatcher of requests; there is one from ``start`` on."""
        assert isinstance(self._handlers, Dispatcher)
        return self._handlers

    def _make_handlers(self, in_flight: InFlight, results: Results, mailbox: Mailbox, deadlines: Deadlines,
                       turns: Turns) -> Dispatcher:
        if results.on_error is not None:
            results.on_error.seconds = None        # the workers keep the limit: here a call waits for a worker too
        socket = self._router.socket
        secured = (self.access.restricts or bool(socket.getsockopt(zmq.ZAP_DOMAIN))
                   or socket.getsockopt(zmq.MECHANISM) != zmq.NULL)
        return Dispatcher(self._window, self._retries, secured, in_flight, results, mailbox, deadlines, turns, self._ledger)

    def _explain(self, request: Request, error: BaseException) -> bytes | list[bytes] | None:
        return self.dispatcher.explain(request, error)

    def _ask_who(self, setting: str, *words: str) -> Any:
        """A greenlet. Who may connect, the application says, in a worker."""
        return self.dispatcher.access_calls.ask(setting, words)

    def _crash(self, error: BaseException) -> None:
        super()._crash(error)
        self._crashed(error)

    def _not_here(self, request: Request) -> Any:
        raise AssertionError("a handler was called in the serving process")
