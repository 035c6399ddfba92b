"""Whose connection is whose: a reply goes to the one that asked."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
import zmq
from held import Held, ask

from green_router.testing import eventually, settled


@pytest.mark.parametrize(
    "closes", [True, False], ids=["the old one closes", "the old one stays open"]
)
@pytest.mark.parametrize("follow", [False, True])
def test_a_reply_reaches_the_connection_that_asked_and_no_other(
    serve: Any, follow: bool, closes: bool
) -> None:
    """A REQ client that comes back under its name would take it for the answer to what it asks
    now."""
    held = Held()
    server = serve(held, replies_follow_routing_id=follow)
    old = ask(server, b"old", routing_id=b"me")
    eventually(lambda: held.began)
    if closes:
        old.close(0)
        eventually(lambda: server.stats()["connections"] == 0)
    new = ask(server, b"new", routing_id=b"me")
    eventually(lambda: len(held.began) == 2)
    held.go.set()
    assert new.recv() == (b"late old" if follow else b"late new")
    eventually(lambda: settled(server) == 2)
    assert settled(server, "peer_gone") == (0 if follow else 1)


# -- where nothing is known ------------------------------------------------------------------------


def test_over_inproc_everybody_counts_as_connected(serve: Any) -> None:
    held = Held()
    server = serve(held, "inproc://peers")
    client = ask(server, b"x")
    eventually(lambda: held.began)
    client.close(0)
    gevent.sleep(0.01)
    assert held.began[0].connected
    held.go.set()
    eventually(lambda: settled(server, "peer_gone") == 1)


def test_other_clients_of_a_proxy_stay(serve: Any) -> None:
    """What is behind a proxy is not seen: its connection is the proxy's."""
    held = Held()
    server = serve(held)
    proxy = server.client(zmq.DEALER)
    for name in (b"a", b"b"):
        proxy.send_multipart([name, b"", name])
    eventually(lambda: len(held.began) == 2)
    assert all(request.connected for request in held.began)
    held.go.set()
    assert sorted(proxy.recv_multipart() for _ in range(2)) == [
        [b"a", b"", b"late a"],
        [b"b", b"", b"late b"],
    ]
