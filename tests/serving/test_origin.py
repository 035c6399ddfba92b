"""What is known of the connection that a request came by: of real connections, and of none."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import zmq

from green_router.serving.origin import connection_property, is_open
from green_router.sockets.connections import Connections
from green_router.testing import DEADLINE, RunningServer, eventually

Serve = Callable[..., RunningServer]


@pytest.fixture
def asked(serve: Serve) -> Callable[..., tuple[RunningServer, Any, Any]]:
    """``asked(endpoint)``: a server, its client, and the request that it keeps."""

    def ask(endpoint: str, **settings: Any) -> tuple[RunningServer, Any, Any]:
        kept: list[Any] = []
        server = serve(kept.append, endpoint, **settings)
        client = server.client(zmq.DEALER)
        client.send_multipart([b"", b"x"])
        eventually(lambda: kept)
        return server, client, kept

    return ask


@pytest.mark.parametrize("name", ["Peer-Address", "User-Id", "Role", "X-nobody-has-this", ""])
@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "inproc://origin"])
def test_a_connection_without_a_property_has_none_and_that_is_no_error(
    asked: Callable[..., Any], endpoint: str, name: str
) -> None:
    *_, kept = asked(endpoint)
    known = connection_property(kept[0], name)
    assert known == ("127.0.0.1" if (endpoint[:3], name) == ("tcp", "Peer-Address") else None)
    kept.pop().reply(b"")


def test_only_what_libzmq_says_of_it_is_no_error() -> None:
    """Whatever else is raised is a bug, and not taken for an answer."""

    def broken(name: str) -> str:
        raise LookupError(name)

    request: Any = SimpleNamespace(origin=SimpleNamespace(get=broken))
    with pytest.raises(LookupError):
        connection_property(request, "User-Id")


def test_a_connection_is_open_until_its_client_has_gone(asked: Callable[..., Any]) -> None:
    _, client, kept = asked("tcp://127.0.0.1:0")
    assert kept[0].connected
    client.close(0)
    eventually(lambda: not kept[0].connected, DEADLINE)
    # What is known of it is known still.
    assert connection_property(kept[0], "Peer-Address") == "127.0.0.1"
    kept.clear()


def test_where_nothing_is_known_it_is_taken_for_open(asked: Callable[..., Any]) -> None:
    _, client, kept = asked("inproc://origin")
    client.close(0)
    assert kept[0].connected
    kept.clear()


def known(*, connected: bool, lasting: set[bytes]) -> Any:
    return SimpleNamespace(connected=lambda origin, received_at: connected, lasting=lasting)


@pytest.mark.parametrize("connected", [True, False])
@pytest.mark.parametrize("lasting", [set(), {b"proxy"}], ids=["client", "proxy"])
def test_a_link_to_a_proxy_is_made_again_and_so_is_never_taken_for_ended(
    connected: bool, lasting: set[bytes]
) -> None:
    request = SimpleNamespace(origin=object(), frames=[b"proxy", b"", b"x"], received_at=1.0)
    connections: Connections = known(connected=connected, lasting=lasting)
    assert is_open(connections, request) is (connected or bool(lasting))


@pytest.mark.parametrize("mail", [SimpleNamespace(origin=None), object()])
def test_a_push_has_no_connection_that_could_have_ended(mail: Any) -> None:
    assert is_open(known(connected=False, lasting=set()), mail)
