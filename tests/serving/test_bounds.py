"""Every number that a setting takes is one that libzmq, the kernel and gevent take: each is served
with at its bounds."""

from __future__ import annotations

import math
from typing import Any

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from green_router import Server
from green_router.settings import SETTINGS, Setting
from green_router.settings.kinds import Number, Seconds
from green_router.testing import eventually, settled

HUGE = 10**18
"""In the place of no bound."""

NUMBERS = [row for row in SETTINGS.values() if isinstance(row.kind, Number)]

EDGES = [
    (row.name, value if value != math.inf else HUGE)
    for row in NUMBERS
    for value in (row.kind.minimum, row.kind.maximum)
]

TOGETHER: dict[str, dict[str, Any]] = {
    "heartbeat_interval": {"duplicate_routing_id": "reject"},
    "tcp_keepalive_idle": {"park_timeout": SETTINGS["park_timeout"].kind.maximum},
}
"""What else is set: what it needs, or what goes into the same option of a socket."""

TOO_LITTLE = [("max_in_flight_bytes_per_peer", 1), ("handler_timeout", 0.001)]
"""Limits below one request, which is refused, and on a busy machine below what it takes: it has its
fate all the same."""


@pytest.mark.parametrize(("name", "value"), EDGES)
def test_a_server_serves_at_the_bounds_of_every_number(serve: Any, name: str, value: float) -> None:
    server = serve(lambda request: request.data, **{name: value, **TOGETHER.get(name, {})})
    client = server.client()
    client.send(b"x")
    if (name, value) not in TOO_LITTLE:
        assert client.recv() == b"x"
    eventually(lambda: settled(server) == 1)


def test_all_at_their_maximum(serve: Any) -> None:
    settings: dict[str, Any] = {
        row.name: row.kind.maximum if row.kind.maximum != math.inf else HUGE for row in NUMBERS
    }
    server = serve(lambda request: request.data, **settings, duplicate_routing_id="reject")
    assert server.ask(b"x") == b"x"
    server.stop()


def test_the_smallest_limit_of_a_message_lets_every_client_in(serve: Any) -> None:
    """libzmq's applies to the handshake as well, where a client tells its routing id."""
    server = serve(
        lambda request: b"ok", max_message_bytes=int(SETTINGS["max_message_bytes"].kind.minimum)
    )
    client = server.client(zmq.DEALER, routing_id=b"i" * 255)
    client.send_multipart([b"", b"x"])
    assert client.recv_multipart() == [b"", b"ok"]


THREADS = ("io_threads", "block_warning")
"""They make OS threads, which outlive a short test."""


def number(row: Setting[Any]) -> st.SearchStrategy[Any]:
    most = row.kind.maximum if row.kind.maximum != math.inf else HUGE
    return (
        st.integers(int(row.kind.minimum), int(most))
        if not isinstance(row.kind, Seconds)
        else st.floats(row.kind.minimum, most)
    )


@given(st.fixed_dictionaries({row.name: number(row) for row in NUMBERS if row.name not in THREADS}))
def test_a_router_takes_any_numbers_within_the_bounds(settings: dict[str, Any]) -> None:
    server = Server(print, **settings, duplicate_routing_id="reject")
    server.bind("tcp://127.0.0.1:0")
    server.start()
    server.stop(0)
