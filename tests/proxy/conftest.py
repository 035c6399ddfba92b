"""A proxy in this hub, servers that connect to it, and clients."""

from __future__ import annotations

from contextlib import ExitStack

import gevent
import pytest
import zmq.green

from green_router import Server
from green_router.proxy.credit import CreditProxy
from green_router.settings import Settings
from green_router.sockets.context import end_context, make_context
from green_router.sockets.router import Router
from green_router.testing import DEADLINE, eventually


class Place:
    """All that a test has: one proxy, what has connected, and what is closed with it."""

    def __init__(self, stack, **settings):
        self.stack, self.settings = stack, Settings(linger=0, **settings)
        context = make_context(self.settings)
        stack.callback(end_context, context, 0)
        self.front, self.back = (Router(context, self.settings) for _ in range(2))
        self.frontend, self.backend = (
            router.bind("tcp://127.0.0.1:0") for router in (self.front, self.back)
        )
        self.proxy = CreditProxy(self.front, self.back, self.settings.max_frames)
        greenlet = gevent.spawn(self.proxy.run)
        stack.callback(
            lambda: (
                self.proxy.end(),
                greenlet.join(DEADLINE),
                self.front.close(),
                self.back.close(),
            )
        )
        self.clients = zmq.green.Context()
        stack.callback(self.clients.destroy, 0)

    @property
    def workers(self):
        return self.proxy.stats()["workers"]

    def server(self, handler, **settings):
        """A server that has connected, and has been greeted."""
        before = len(self.workers)
        server = Server(handler, linger=0.2, **settings)
        server.connect(self.backend)
        server.start()
        self.stack.callback(server.stop, 0)
        eventually(lambda: len(self.workers) > before and self.workers[-1]["window"])
        return server

    def client(self, kind=zmq.DEALER, **options):
        """A client's socket, connected to the proxy."""
        socket = self.clients.socket(kind)
        for name, value in options.items():
            setattr(socket, name, value)
        socket.connect(self.frontend)
        return socket


@pytest.fixture
def place():
    """One proxy."""
    with ExitStack() as stack:
        yield Place(stack)
