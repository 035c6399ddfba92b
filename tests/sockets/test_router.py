"""The ROUTER itself: its options, where it is bound, who closes it, and who calls it. What clients
see of it is in serving/."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import gevent
import pytest
import zmq
from gevent.threadpool import ThreadPool

from green_router.errors import BindError, WrongThread
from green_router.settings import Settings
from green_router.sockets.context import end_context, make_context
from green_router.sockets.frames_pure import SENT
from green_router.sockets.router import (
    CONNECTED,
    HEARTBEATS_MISSED,
    KEEPALIVE_PROBES,
    LONGEST_MS,
    OwnedCalls,
    Router,
    milliseconds,
)
from green_router.testing import PATIENCE, eventually

Make = Callable[..., Router]


@pytest.fixture
def make() -> Iterator[Make]:
    """``make(kind, **settings)``: a ROUTER in a context of the test's own."""
    with ExitStack() as stack:
        context = make_context(Settings())
        stack.callback(end_context, context, 0)

        def router(kind: int = zmq.ROUTER, **settings: Any) -> Router:
            one = Router(context, Settings(**({"linger": 0} | settings)), kind)
            stack.callback(one.close)
            return one

        yield router


# -- its options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("seconds", "whole"),
    [(0.0, 0), (1e-9, 1), (0.001, 1), (0.0011, 2), (1, 1000), (2.5, 2500), (86400.0, 86_400_000)],
)
def test_a_short_time_never_becomes_none_at_all(seconds: float, whole: int) -> None:
    assert milliseconds(seconds) == whole


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        (
            {"linger": 1.5, "backlog": 77, "handshake_timeout": 2.5},
            {zmq.LINGER: 1500, zmq.BACKLOG: 77, zmq.HANDSHAKE_IVL: 2500},
        ),
        ({"send_high_water_mark": 5, "receive_high_water_mark": 6}, {zmq.SNDHWM: 5, zmq.RCVHWM: 6}),
        ({"max_message_bytes": 1000}, {zmq.MAXMSGSIZE: 1000}),
        ({"max_message_bytes": None}, {zmq.MAXMSGSIZE: -1}),
        ({"routing_id": b"server"}, {zmq.ROUTING_ID: b"server"}),
        (
            {
                "heartbeat_interval": 0.5,
                "duplicate_routing_id": "reject",
                "receive_high_water_mark": 6,
            },
            {
                zmq.HEARTBEAT_IVL: 500,
                zmq.HEARTBEAT_TIMEOUT: 500 * HEARTBEATS_MISSED,
                zmq.RCVHWM: 0,  # libzmq must never stop reading a peer
            },
        ),
        ({"heartbeat_interval": None}, {zmq.HEARTBEAT_IVL: 0}),
        (
            {"tcp_keepalive_idle": 60.0, "park_timeout": 10.0},
            {
                zmq.TCP_KEEPALIVE: 1,
                zmq.TCP_KEEPALIVE_IDLE: 60,
                zmq.TCP_KEEPALIVE_INTVL: 10,
                zmq.TCP_KEEPALIVE_CNT: KEEPALIVE_PROBES,
                zmq.TCP_MAXRT: 90_000,
            },
        ),
        (
            {"tcp_keepalive_idle": 1.0, "park_timeout": 1000.0},
            {zmq.TCP_KEEPALIVE_INTVL: 1, zmq.TCP_MAXRT: 1_000_000},
        ),
        ({"tcp_keepalive_idle": None}, {zmq.TCP_KEEPALIVE: -1, zmq.TCP_MAXRT: 0}),
        ({"tcp_keepalive_idle": 1.0, "park_timeout": None}, {zmq.TCP_MAXRT: 0}),
    ],
    ids=lambda value: "-".join(value) if value and isinstance(next(iter(value)), str) else "",
)
def test_settings_become_options(
    make: Make, settings: dict[str, Any], options: dict[int, Any]
) -> None:
    socket = make(**settings).socket
    assert {option: socket.getsockopt(option) for option in options} == options


def test_no_time_is_longer_than_an_option_can_say(make: Make) -> None:
    socket = make(tcp_keepalive_idle=1.0, park_timeout=86_400.0 * 30).socket
    assert socket.getsockopt(zmq.TCP_MAXRT) == LONGEST_MS


def test_a_proxys_other_side_is_a_dealer(make: Make) -> None:
    """Which has none of the options that only a ROUTER knows."""
    assert make(zmq.DEALER).socket.getsockopt(zmq.TYPE) == zmq.DEALER


# -- where it is bound -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:0", "tcp://127.0.0.1:*", "tcp://[::1]:0", "ipc", "inproc://x"]
)
def test_it_says_where_it_really_is(make: Make, tmp_path: Path, endpoint: str) -> None:
    router, other = make(), make()
    wanted = f"ipc://{tmp_path}/s" if endpoint == "ipc" else endpoint
    real = router.bind(wanted)
    assert router.endpoints == [real]
    assert real.rpartition(":")[0] == wanted.rpartition(":")[0]
    assert not real.endswith((":0", ":*"))
    with pytest.raises(BindError, match=r"in use|another process"):
        other.bind(real)
    assert other.endpoints == []


def test_one_that_could_not_be_bound_can_be_bound_elsewhere(make: Make) -> None:
    """Also where the next one is of another kind: no option of the first is left."""
    router, taken = make(), make().bind("tcp://127.0.0.1:0")
    for _ in range(2):
        with pytest.raises(BindError):
            router.bind(taken)
    for endpoint in ("tcp://[::1]:0", "tcp://127.0.0.1:0", "inproc://after"):
        router.bind(endpoint)
    assert len(router.endpoints) == 3


@pytest.mark.parametrize("endpoint", ["", "tcp://", "tcp://host", "http://x", "ipc://a\\0b"])
def test_what_is_no_endpoint_is_told_before_libzmq_misreads_it(make: Make, endpoint: str) -> None:
    router = make()
    with pytest.raises(BindError):
        router.bind(endpoint.replace("\\0", "\0"))
    assert router.endpoints == []


def test_a_path_is_gone_when_it_is_closed(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "s"
    router = make()
    router.bind(f"ipc://{path}")
    assert path.is_socket()
    router.close()
    assert not path.exists()


def test_a_descriptor_is_adopted_once(make: Make) -> None:
    """libzmq closes it then, so a second use would be of somebody else's."""
    import socket

    listening = socket.create_server(("127.0.0.1", 0))
    endpoint = "tcp://{}:{}".format(*listening.getsockname())
    descriptor = listening.detach()
    router = make()
    assert router.adopt("tcp://x", descriptor) == endpoint
    with pytest.raises(BindError, match=f"descriptor {descriptor} is given twice"):
        router.adopt("tcp://x", descriptor)
    assert router.endpoints == [endpoint]


# -- who it connects to ----------------------------------------------------------------------------


def test_a_link_has_options_of_its_own_and_what_is_bound_later_has_none_of_them(make: Make) -> None:
    front, router = make(), make(tcp_keepalive_idle=None)
    before = {option: router.socket.getsockopt(option) for option in CONNECTED}
    assert before != CONNECTED
    router.connect(front.bind("tcp://127.0.0.1:0"), b"proxy", {})
    assert {option: router.socket.getsockopt(option) for option in CONNECTED} == before
    assert router.connections.lasting == {b"proxy"}
    eventually(lambda: router.send([b"proxy", b""], 2, b"hello") == SENT)
    received: Any = eventually(lambda: front.receive(10))
    assert received[0][1:] == [b"", b"hello"]


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "tcp://*:5555", "inproc://x", "fd://3"])
def test_what_one_cannot_connect_to_leaves_no_trace(make: Make, endpoint: str) -> None:
    router = make()
    with pytest.raises(BindError):
        router.connect(endpoint, b"proxy", {})
    assert not router.connections.lasting


# -- who closes it ---------------------------------------------------------------------------------


@pytest.mark.parametrize("who", ["itself", "somebody else", "a context that is destroyed"])
def test_who_asks_is_told_when_somebody_else_closes_it(who: str) -> None:
    context = make_context(Settings())
    router = Router(context, Settings(linger=0))
    told: list[bool] = []
    router.call_when_closed(lambda: told.append(router.socket.closed))
    if who == "itself":
        router.close()
    elif who == "somebody else":
        router.socket.close(0)
        router.socket.close(0)
    else:
        context.destroy(0)
    assert told == ([] if who == "itself" else [False]), "just before, and once"
    router.close()
    router.close()
    assert router.socket.closed
    end_context(context, 0)


def test_its_descriptor_is_watched_by_nobody_but_its_owner(make: Make) -> None:
    """zmq.green's own watcher would read EVENTS at every edge."""
    router = make()
    assert getattr(router.socket, "_state_event", None) is None
    assert router.fd == router.socket.getsockopt(zmq.FD)


# -- who calls it ----------------------------------------------------------------------------------


def test_calls_are_those_of_whoever_made_the_first_one() -> None:
    calls: list[Any] = []
    owned = OwnedCalls()
    send, receive = owned.guard(calls.append), owned.guard(lambda: calls)
    send("mine")
    assert receive() is calls
    with pytest.raises(WrongThread, match="and was touched by"):
        gevent.spawn(send, "a greenlet's").get()
    pool = ThreadPool(1)
    try:
        with pytest.raises(WrongThread):
            pool.apply(send, ("a thread's",))
    finally:
        pool.kill()
    send("mine still")
    assert calls == ["mine", "mine still"]


@pytest.mark.parametrize("debug", [True, False])
def test_calls_are_looked_at_in_debug_mode_only(
    make: Make, monkeypatch: pytest.MonkeyPatch, debug: bool
) -> None:
    monkeypatch.setenv("GREEN_ROUTER_DEBUG", "1" if debug else "")
    router = make()
    router.readable()
    stranger = gevent.spawn(router.readable)
    if debug:
        with pytest.raises(WrongThread):
            stranger.get()
    else:
        assert not stranger.get()


def test_the_whole_works_in_debug_mode_and_it_notices_strangers():
    code = """
import gevent, zmq
from green_router import errors
from green_router.testing import running_server
with running_server(lambda request: gevent.sleep(0.001) or request.data) as server:
    for _ in range(10):
        assert server.ask(b"x") == b"x"
    try:
        server._router.send(b"x", zmq.NOBLOCK)
    except errors.WrongThread as error:
        print("noticed")
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "GREEN_ROUTER_DEBUG": "1"},
        text=True,
        check=True,
        capture_output=True,
        timeout=30 * PATIENCE,
    )
    assert done.stdout == "noticed\n"
