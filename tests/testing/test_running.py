"""A server for a test: what is opened is closed, waits have an end, and accounts that do not
balance are found."""

from __future__ import annotations

from typing import Any

import gevent
import pytest
import zmq

from green_router.messages.ledger import ANSWERED
from green_router.testing import (
    FakeRouter,
    RunningServer,
    assert_balanced,
    eventually,
    running_server,
    settled,
)
from green_router.testing.running import whereabouts


def echo(request: Any) -> bytes:
    return bytes(request.data)


def test_a_server_runs_for_the_length_of_the_block() -> None:
    with running_server(echo) as server:
        assert server.endpoints[0].startswith("tcp://127.0.0.1:")
        assert server.ask(b"hello") == b"hello"
        assert server.ask() == b""
        client = server.client(zmq.DEALER, routing_id=b"me")
        client.send_multipart([b"", b"x"])
        assert client.recv_multipart() == [b"", b"x"]
        assert settled(server) == settled(server, "answered", "failed") == 3
        assert settled(server, "failed") == 0
    assert "stopped" in repr(server)
    assert client.closed


@pytest.mark.parametrize("endpoint", ["inproc://running", "ipc"])
def test_it_serves_where_it_is_told_to(tmp_path: Any, endpoint: str) -> None:
    wanted = f"ipc://{tmp_path}/s" if endpoint == "ipc" else endpoint
    with running_server(echo, wanted) as server:
        assert list(server.endpoints) == [wanted]
        assert server.ask(b"x") == b"x"


def test_an_error_in_the_block_is_raised_and_everything_closed_all_the_same() -> None:
    made: list[Any] = []

    def breaks() -> None:
        with running_server(lambda request: gevent.sleep(1000)) as server:
            made.extend([server, server.client(zmq.DEALER)])
            made[1].send_multipart([b"", b"x"])
            eventually(lambda: server.stats()["in_flight"] == 1)
            raise LookupError

    with pytest.raises(LookupError):
        breaks()
    server, client = made
    assert client.closed
    assert settled(server, "abandoned") == 1


def test_a_question_that_nobody_answers_has_an_end() -> None:
    with running_server(lambda request: None) as server, pytest.raises(gevent.Timeout):
        server.ask(b"x", seconds=0.02)


def test_a_server_that_is_closed_can_have_clients_again() -> None:
    with running_server(echo) as server:
        for _ in range(2):
            assert server.ask(b"x") == b"x"
            server.close_clients()
            server.close_clients()


# -- waiting ---------------------------------------------------------------------------------------


def test_it_returns_what_the_condition_has_become() -> None:
    values = iter([0, "", None, [], "there"])
    assert eventually(lambda: next(values)) == "there"


def test_a_condition_that_never_holds_is_an_error_that_names_it() -> None:
    def never() -> bool:
        return False

    with pytest.raises(AssertionError, match=r"not within 0.01 s: .*never"):
        eventually(never, 0.01)


def test_somebody_elses_timeout_is_not_taken_for_its_own() -> None:
    with pytest.raises(gevent.Timeout) as caught, gevent.Timeout(0.01) as outer:
        eventually(lambda: False, 100)
    assert caught.value is outer


# -- accounts --------------------------------------------------------------------------------------


def test_each_message_is_counted_where_it_is() -> None:
    kept: list[Any] = []
    with running_server(kept.append) as server:
        for _ in range(3):
            server.client(zmq.DEALER).send_multipart([b"", b"x"])
        eventually(lambda: len(kept) == 3)
        eventually(lambda: whereabouts(server)["open"] == 3)
        assert sum(whereabouts(server).values()) == 3
        assert_balanced(server)
        for request in kept:
            request.reply(b"")
        kept.clear()
        eventually(lambda: settled(server) == 3)
        assert sum(whereabouts(server).values()) == 0


@pytest.mark.parametrize("fault", ["a fate without a message", "a message without a fate"])
def test_accounts_that_do_not_balance_are_found(fault: str) -> None:
    router = FakeRouter()
    server = RunningServer(echo, router.parts)
    server.start()
    try:
        ledger = server._owner._ledger
        if fault == "a fate without a message":
            ledger.counts[ANSWERED] += 1
        else:
            ledger.received += 1
        with pytest.raises(AssertionError):
            assert_balanced(server)
        ledger.counts[ANSWERED] = ledger.received = 0
        assert_balanced(server)
    finally:
        server.stop(0)


def test_a_server_that_was_never_started_has_nothing() -> None:
    server = RunningServer(echo)
    assert whereabouts(server) == {}
    assert_balanced(server)
    server.stop()
