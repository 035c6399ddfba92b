"""Connections that are not let in: counted as soon as somebody may be kept out, and said in the log
without a flood. By which cause is in security/test_failures.py."""

from __future__ import annotations

import logging
import socket as sockets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
from key_pairs import KeyPairs

from green_router.hub import log_throttle
from green_router.settings import Settings
from green_router.sockets.connections import Connections
from green_router.sockets.context import end_context, make_context
from green_router.sockets.refusals import Refusals
from green_router.testing import eventually


class Told:
    """In the place of AccessControl. Attributes: say and watch, what it was given; heard, what its
    listener has heard."""

    def __init__(self) -> None:
        self.heard: list[int] = []
        self.failures = self
        self.listeners = {zmq.EVENT_ACCEPTED: self.heard.append}

    def open(self, say: Callable[..., None], watch: Callable[[], None]) -> None:
        self.say, self.watch = say, watch


class Rig:
    """A bound ROUTER and the refusals of it; ``peers`` as in ``Router``."""

    def __init__(self, stack: ExitStack, peers: bool = False) -> None:
        context = make_context(Settings())
        stack.callback(end_context, context, 0)
        self.router = context.socket(zmq.ROUTER)
        self.access: Any = Told()
        self.connections = Connections(self.router if peers else None, {})
        self.refusals = Refusals(self.router, self.access, self.connections)
        stack.callback(self.close)
        self.router.bind("tcp://127.0.0.1:0")
        self._address = self.router.last_endpoint.decode().removeprefix("tcp://").split(":")

    def knock(self, times: int = 1) -> None:
        """Connect, and go."""
        for _ in range(times):
            sockets.create_connection(self._address).close()

    def close(self) -> None:
        self.refusals.close()
        self.connections.close()
        self.router.close(0)


@pytest.fixture
def make() -> Iterator[Callable[..., Rig]]:
    with ExitStack() as stack:
        yield lambda **options: Rig(stack, **options)


def watched(rig: Rig) -> bool:
    """Whether it looks for itself."""
    return rig.refusals._watcher is not None


# -- counted ---------------------------------------------------------------------------------------


def test_it_costs_nothing_until_an_endpoint_keeps_somebody_out(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.knock()
    gevent.sleep(0.01)
    assert rig.access.heard == []
    assert not watched(rig)


def test_from_then_on_everybody_who_comes_is_heard_of(make: Callable[..., Rig]) -> None:
    rig = make()
    rig.access.watch()
    rig.knock(5)
    eventually(lambda: len(rig.access.heard) == 5)


def test_where_connections_are_known_whoever_knows_them_looks(make: Callable[..., Rig]) -> None:
    """A socket has one monitor."""
    rig = make(peers=True)
    rig.access.watch()
    rig.knock(3)
    assert not watched(rig)
    eventually(lambda: rig.connections.look() or len(rig.access.heard) == 3)


def test_no_connection_is_kept_that_nobody_else_looks_at(make: Callable[..., Rig]) -> None:
    """Of each that comes and goes there would be something left, for ever."""
    rig = make()
    rig.access.watch()
    rig.knock(20)
    eventually(lambda: len(rig.access.heard) == 20)
    own: Any = rig.refusals._connections
    eventually(lambda: not own.live)
    assert not own.ended and not own.fresh


@pytest.mark.parametrize("how", ["disarm", "close"])
def test_afterwards_nothing_is_heard(make: Callable[..., Rig], how: str) -> None:
    """In a forked child the connections are the parent's; and at the end the ROUTER goes."""
    rig = make()
    rig.access.watch()
    rig.knock()
    eventually(lambda: rig.access.heard)
    for _ in range(2):
        getattr(rig.refusals, how)()
    heard = len(rig.access.heard)
    rig.knock()
    gevent.sleep(0.01)
    assert len(rig.access.heard) == heard


def test_the_end_of_the_context_ends_the_looking_and_is_no_error(
    make: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    rig = make()
    rig.access.watch()

    def ended(connections: Connections) -> None:
        raise zmq.ContextTerminated

    with monkeypatch.context() as patched:
        patched.setattr(Connections, "look", ended)
        rig.knock()
        eventually(lambda: not watched(rig))
    assert rig.access.heard == []


# -- said ------------------------------------------------------------------------------------------


def test_of_one_address_no_more_than_a_line_a_second_is_said(
    make: Callable[..., Rig], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [5.0]
    monkeypatch.setattr(log_throttle, "monotonic", lambda: now[0])
    caplog.set_level(logging.WARNING, "green_router.security")
    rig = make()
    for _ in range(1000):
        rig.access.say("10.0.0.1", "%s was not let in", "10.0.0.1")
    rig.access.say("10.0.0.2", "%s was not let in: %d", "10.0.0.2", 5)
    now[0] = 6.0
    rig.access.say("10.0.0.1", "%s again", "10.0.0.1")
    assert [record.getMessage() for record in caplog.records] == [
        "10.0.0.1 was not let in",
        "10.0.0.2 was not let in: 5 (999 more since the last such line)",
        "10.0.0.1 again",
    ]


def test_however_many_addresses_there_are_the_log_is_no_flood(
    make: Callable[..., Rig], caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_throttle, "monotonic", lambda: 5.0)
    rig = make()
    for number in range(1000):
        rig.access.say(f"10.0.0.{number}", "not let in")
    assert len(caplog.records) == log_throttle.LINES_PER_SECOND


def test_what_a_client_says_of_itself_is_no_format(
    make: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    make().access.say("10.0.0.1", "not let in: %s", "%s %d 100%")
    assert [record.getMessage() for record in caplog.records] == ["not let in: %s %d 100%"]


# -- a whole server --------------------------------------------------------------------------------


def test_a_server_counts_strangers_only_where_somebody_is_kept_out(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    everybody, some = serve(lambda request: b""), serve(lambda request: b"", **keys_of(tmp_path))
    for server in (everybody, some):
        with sockets.create_connection(server.endpoints[0][6:].split(":")) as raw:
            raw.sendall(b"GET / HTTP/1.1\r\n\r\n")
    eventually(lambda: sum(some.stats()["auth_failures"].values()))
    assert everybody.stats()["auth_failures"] == {}


def keys_of(path: Path) -> dict[str, Any]:
    return KeyPairs(path).settings
