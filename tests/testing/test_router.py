"""A ROUTER without sockets: nothing is kinder than libzmq. That a whole server does on it what it
does on the real one is in serving/test_state_machine.py."""

from __future__ import annotations

import os
import select
from random import Random

import pytest

from green_router.sockets.frames_pure import GONE, SENT
from green_router.testing import FakeRouter
from green_router.testing.router import INBOUND_POLL_RATE


@pytest.fixture
def router():
    one = FakeRouter()
    yield one
    one.close()


def readable(router: FakeRouter) -> bool:
    """Whether its descriptor is."""
    return bool(select.select([router.fd], [], [], 0)[0])


def test_a_message_has_the_id_of_its_peer_and_the_properties_of_its_connection(router) -> None:
    router.connect(b"me", Peer_Address="10.0.0.1").send(b"", b"x")
    frames, origin = router.receive(10)
    assert frames == [b"me", b"", b"x"]
    assert origin.get("Peer-Address") == "10.0.0.1"


def test_ids_that_nobody_chose_are_of_libzmqs_kind_and_differ(router) -> None:
    ids = [router.connect().routing_id for _ in range(300)]
    assert len(set(ids)) == 300
    assert {(len(name), name[0]) for name in ids} == {(5, 0)}


def test_peers_take_turns_message_by_message(router) -> None:
    for name in (b"a", b"b"):
        peer = router.connect(name)
        for number in range(3):
            peer.send(b"%d" % number)
    read = [router.receive(10)[0] for _ in range(6)]
    assert [frames[0] for frames in read] == [b"a", b"b"] * 3
    assert router.receive(10) is None


def test_a_message_of_too_many_frames_is_thrown_away_in_pieces(router) -> None:
    peer = router.connect(b"a")
    peer.send(*[b""] * 20)
    peer.send(b"x")
    frames, _ = router.receive(5)
    assert len(frames) > 5
    while router.skip(5) is False:
        pass
    assert router.receive(5)[0] == [b"a", b"x"]


# -- edges -----------------------------------------------------------------------------------------


def test_its_descriptor_is_readable_at_an_edge_and_silent_once_it_has_been_looked_at(
    router,
) -> None:
    assert not readable(router)
    peer = router.connect(b"a")
    assert readable(router) and router.edges == 1
    peer.send(b"1")
    assert router.edges == 1, "something was waiting there already"
    assert router.readable()
    assert not readable(router)


def test_a_message_that_comes_before_the_socket_has_found_nothing_gives_no_edge(router) -> None:
    """It is simply there: whoever sleeps without a last look oversleeps it."""
    peer = router.connect(b"a")
    peer.send(b"1")
    router.receive(10)
    edges = router.edges
    peer.send(b"2")
    assert router.edges == edges and not readable(router)
    assert router.unread == 1
    assert router.receive(10)[0] == [b"a", b"2"]
    assert router.receive(10) is None
    peer.send(b"3")
    assert router.edges == edges + 1 and readable(router)


@pytest.mark.parametrize("call", ["receive", "readable"])
def test_any_call_may_consume_an_edge(router, call: str) -> None:
    router.connect(b"a")
    assert readable(router)
    router.receive(10) if call == "receive" else router.readable()
    assert not readable(router)


def test_now_and_then_a_send_consumes_one_too() -> None:
    class Always(Random):
        def random(self) -> float:
            return 0.0

    router = FakeRouter(chance=Always())
    router.connect(b"a")
    router.readable()
    router.connect(b"b")
    assert readable(router)
    router.send([b"a", b""], 2, b"x")
    assert not readable(router)
    router.close()


def test_who_only_receives_looks_at_commands_now_and_then(router) -> None:
    busy = router.connect(b"a")
    for _ in range(2 * INBOUND_POLL_RATE):
        busy.send(b"x")
    router.receive(10)
    late = router.connect(b"late")
    late.send(b"y")
    read = [router.receive(10)[0][0] for _ in range(INBOUND_POLL_RATE)]
    assert b"late" in read


# -- peers that come and go ------------------------------------------------------------------------


def test_nobody_is_addressed_who_is_not_known(router) -> None:
    assert router.send([b"nobody", b""], 2, b"x") == GONE
    router.connect(b"late")
    router.readable()
    assert router.send([b"late", b""], 2, b"x") == SENT


def test_who_comes_with_the_id_of_another_takes_its_place(router) -> None:
    first = router.connect(b"me")
    router.readable()
    router.send([b"me", b""], 2, b"first")
    second = router.connect(b"me")
    router.readable()
    assert not first.connected
    router.send([b"me", b""], 2, b"second")
    second.take()
    assert second.received == [[b"", b"second"]]
    first.send(b"never")
    assert router.receive(10) is None


def test_things_happen_meanwhile_after_so_many_calls(router) -> None:
    done: list[int] = []
    for calls in (0, 2):
        router.meanwhile(calls, lambda: done.append(router.calls))
    for _ in range(3):
        router.readable()
    assert done == [1, 3]
    router.meanwhile(100, lambda: done.append(-1))
    assert router.catch_up()
    assert not router.catch_up()
    assert done == [1, 3, -1]


# -- its end ---------------------------------------------------------------------------------------


def test_it_notes_where_it_is_bound_and_closes_what_it_adopts(router) -> None:
    ours, given = os.pipe()
    assert router.bind("tcp://x:1") == "tcp://x:1"
    assert router.adopt("fd://x", given) == "fd://x"
    assert router.endpoints == ["tcp://x:1", "fd://x"]
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(given)
    os.close(ours)


def test_no_call_comes_after_its_end(open_files) -> None:
    before = open_files()
    router = FakeRouter()
    peer = router.connect(b"a")
    for _ in range(2):
        router.close()
    peer.send(b"into the void")
    with pytest.raises(AssertionError, match="closed"):
        router.readable()
    assert open_files() == before
