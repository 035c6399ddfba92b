"""A server is composed when it is made: of another workplace, an observer, and who is told of its
end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest

from green_router.serving.parts import Parts, handlers_here, real_router
from green_router.serving.server import Server
from green_router.testing import FakeRouter, RunningServer, eventually


def echo(request: Any) -> bytes:
    return bytes(request.data)


def serving(handler: Callable[[Any], Any], parts: Parts, **settings: Any) -> RunningServer:
    server = RunningServer(handler, parts, **settings)
    server.bind("tcp://127.0.0.1:0")
    server.start()
    return server


def test_a_workplace_is_made_of_the_core() -> None:
    made: list[Any] = []

    def workplace(core: Any) -> Any:
        made.append(core)
        return handlers_here(core._replace(handler=lambda request: b"elsewhere"))

    server = serving(echo, Parts(workplace=workplace))
    try:
        assert server.ask(b"x") == b"elsewhere"
        assert [core.handler for core in made] == [echo]
    finally:
        server.close_clients()
        server.stop(0)


def test_whoever_is_told_of_a_crash_raises_it() -> None:
    """So a SystemExit in a handler ends the server, and does not go to the main greenlet."""

    def leave(request: Any) -> None:
        raise SystemExit(3)

    told: list[BaseException] = []
    server = serving(leave, Parts(crashed=told.append))
    with pytest.raises(gevent.Timeout):
        server.ask(b"x", seconds=0.05)
    server.close_clients()
    eventually(lambda: "stopped" in repr(server))
    assert [type(error) for error in told] == [SystemExit]


def test_stopping_is_told_once() -> None:
    told: list[str] = []
    server = serving(echo, Parts(name="app:handle", stopping=lambda: told.append("stopping")))
    assert "app:handle" in repr(server)
    server.stop(0)
    server.stop(0)
    assert told == ["stopping"]
    Server(echo, Parts(stopping=lambda: told.append("never"))).stop()
    assert told == ["stopping"]


def test_a_router_is_made_when_the_server_starts() -> None:
    """Of what the server has; another one may be in its place."""
    made: list[Any] = []

    def router(context: Any, settings: Any, access: Any) -> Any:
        made.append((context, settings, access))
        return real_router(context, settings, access)

    server = RunningServer(echo, Parts(router=router))
    server.bind("tcp://127.0.0.1:0")
    assert not made
    server.start()
    try:
        assert server.ask(b"x") == b"x"
        [(context, settings, access)] = made
        assert (context(), settings, access) == (server.context, server.settings, server.access)
    finally:
        server.close_clients()
        server.stop(0)


def test_a_server_on_a_fake_router_opens_no_context() -> None:
    router = FakeRouter()
    server = Server(echo, router.parts)
    server.start()
    peer = router.connect()
    peer.send(b"", b"x")
    eventually(lambda: peer.take() and peer.received == [[b"", b"x"]])
    assert server._context._context is None
    server.stop(0)
