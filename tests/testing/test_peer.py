"""The far side of the fake ROUTER: what a peer sends, takes and loses; the socket's side is in
test_router.py."""

from __future__ import annotations

import pytest
import zmq

from green_router.sockets.frames_pure import FULL, GONE, SENT
from green_router.testing import FakeRouter
from green_router.testing.peer import FakeFrame

NAME = b"peer"


@pytest.fixture
def router():
    one = FakeRouter(capacity=3)
    yield one
    one.close()


def test_frames_have_the_properties_of_their_connection() -> None:
    frame = FakeFrame(b"x", True, {"Peer-Address": "10.0.0.1"})
    assert (frame.bytes, frame.more) == (b"x", True)
    assert frame.get("Peer-Address") == "10.0.0.1"
    with pytest.raises(zmq.ZMQError) as error:
        frame.get("User-Id")
    assert error.value.errno == zmq.EINVAL


def test_it_takes_what_was_sent_as_much_as_it_wants(router) -> None:
    peer = router.connect(NAME)
    router.readable()
    for number in range(3):
        assert router.send([NAME, b""], 2, b"%d" % number) == SENT
    assert peer.take(2) == 2
    assert peer.received == [[b"", b"0"], [b"", b"1"]]
    assert peer.take() == 1
    assert peer.take() == 0
    assert peer.received[2:] == [[b"", b"2"]]


def test_a_peer_that_takes_nothing_is_full(router) -> None:
    """A frozen one: the rest must wait, and room is told of at the low water only."""
    peer = router.connect(NAME)
    router.readable()
    sent = [router.send([NAME, b""], 2, b"x") for _ in range(5)]
    assert sent == [SENT] * 3 + [FULL] * 2
    assert peer.prospect == "full"
    peer.take(1)
    assert peer.prospect == "full"
    peer.take(1)
    assert peer.prospect == "room"
    router.readable()
    assert router.send([NAME, b""], 2, b"x") == SENT


def test_one_that_goes_loses_what_it_has_not_taken_and_what_it_has_sent_is_read(router) -> None:
    peer = router.connect(NAME)
    router.readable()
    router.send([NAME, b""], 2, b"lost")
    peer.send(b"", b"last words")
    peer.disconnect()
    peer.disconnect()
    assert not peer.connected and peer.prospect == "gone"
    peer.send(b"", b"never")
    assert peer.take() == 0
    assert router.receive(10)[0] == [NAME, b"", b"last words"]
    assert router.receive(10) is None
    router.readable()
    assert router.send([NAME, b""], 2, b"x") == GONE
    assert peer.received == []


def test_one_that_goes_in_the_middle_of_a_message_gets_none_of_it(router) -> None:
    peer = router.connect(NAME)
    router.readable()
    router.meanwhile(1, peer.disconnect)
    router.send([NAME, b""], 2, [b"a", b"b"])
    router.readable()
    assert peer.received == [] and not peer.take()
    assert router.send([NAME, b""], 2, b"x") == GONE
