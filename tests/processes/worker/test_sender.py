"""How mail leaves a worker: in batches, in order; and what becomes of what cannot leave."""

from __future__ import annotations

import socket
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import chain
from typing import Any

import gevent
import pytest
import zmq

from green_router.messages.ledger import (
    ANSWERED,
    FAILED,
    LATE,
    LOST_PUSHES,
    LOST_STREAM_ITEMS,
    NO_REPLY,
    PUSHES,
    REJECTED,
    STREAM_ITEMS,
    Ledger,
)
from green_router.messages.request import Request
from green_router.processes.channel import stream
from green_router.processes.channel.protocol import Routes, clear, on_error_ended, ready
from green_router.processes.channel.stream import Channel, encoded
from green_router.processes.worker.keyed import KeyedRequest
from green_router.processes.worker.sender import BATCH, Sender
from green_router.serving.mailbox import Mailbox
from green_router.serving.reply_envelope import NO_ENVELOPE, AddressedPush, ReplyEnvelope
from green_router.testing import eventually

from ..conftest import Service


class Rig:
    """A sender, and what the serving process hears. Attributes: batches, as they came."""

    def __init__(self, stack: ExitStack) -> None:
        ours, theirs = socket.socketpair()
        self.crashes: list[BaseException] = []
        self.dropped: deque[int] = deque()
        self.ledger = Ledger()
        self.mailbox = Mailbox(self.crashes.append)
        self.batches: list[list[Any]] = []
        self.channel = Channel(ours.detach(), lambda batch: None, lambda: None)
        self.serving = Channel(theirs.detach(), self.batches.append, lambda: None)
        self.sender = Sender(
            self.channel, self.mailbox, self.dropped, self.ledger, self.crashes.append
        )
        stack.callback(self._close)
        self.sender.greenlet.start()

    def _close(self) -> None:
        self.sender.greenlet.kill()
        self.channel.close()
        self.serving.close()

    def put(self, *mail: Any) -> None:
        for piece in mail:
            self.mailbox.put(piece)

    def heard(self, count: int) -> list[Any]:
        """The next so many messages; there are no more."""
        messages: list[Any] = eventually(
            lambda: sum(map(len, self.batches)) >= count and [*chain(*self.batches)]
        )
        gevent.idle()
        assert len(messages) == count == sum(map(len, self.batches))
        self.batches.clear()
        return messages


@pytest.fixture
def rig() -> Iterator[Rig]:
    with ExitStack() as stack:
        yield Rig(stack)


def requested(key: int) -> Request:
    request = KeyedRequest([b"peer", b"", b"x"], 2, 0.0, None, None)  # type: ignore[arg-type]
    request.key = key
    return request


def test_everything_that_waits_leaves_in_one_batch_and_in_order(rig: Rig) -> None:
    rig.put(
        (requested(1), b"a", ANSWERED),
        (requested(2), [b"b", b"c"], STREAM_ITEMS),
        (requested(2), None, REJECTED),
        (ReplyEnvelope([b"peer", b""], 2), b"p", PUSHES),
        (AddressedPush([b"other", b""], lambda peer: None), [b"q"], PUSHES),
    )
    rig.sender.say(ready([]))
    rig.put((requested(3), b"d", FAILED))
    assert rig.heard(7) == [
        (1, ANSWERED, b"a"),
        (2, STREAM_ITEMS, [b"b", b"c"]),
        (2, REJECTED, None),
        ("push", [b"peer", b""], b"p"),
        ("pair", [b"other", b""], [b"q"]),
        ("ready", []),
        (3, FAILED, b"d"),
    ]


def test_no_batch_is_held_back_for_longer_than_it_takes_to_fill(rig: Rig) -> None:
    rig.put(*((requested(number), b"x", ANSWERED) for number in range(2 * BATCH + 1)))
    eventually(lambda: len(rig.batches) == 3)
    assert list(map(len, rig.batches)) == [BATCH, BATCH, 1]


def test_what_nobody_can_answer_any_more_is_told_by_its_key(rig: Rig) -> None:
    """In the order in which the keys were noted: there is no request left to ask."""
    rig.dropped += [7, 8]
    rig.put((NO_ENVELOPE, None, NO_REPLY), (NO_ENVELOPE, None, NO_REPLY))
    assert rig.heard(2) == [(7, NO_REPLY, None), (8, NO_REPLY, None)]
    assert not rig.dropped


def test_what_is_counted_is_told_and_late_results_with_the_next_batch(rig: Rig) -> None:
    rig.ledger.counts[LATE] = 3
    gevent.idle()
    assert not rig.batches
    rig.put((NO_ENVELOPE, None, LOST_STREAM_ITEMS))
    assert rig.heard(2) == [("event", LOST_STREAM_ITEMS, 1), ("event", LATE, 3)]
    assert rig.ledger.counts[LATE] == 0
    rig.put((NO_ENVELOPE, None, LOST_STREAM_ITEMS))
    assert rig.heard(1) == [("event", LOST_STREAM_ITEMS, 1)]


def test_no_request_is_kept_while_there_is_no_mail(rig: Rig) -> None:
    request = requested(1)
    kept = weakref.ref(request)
    rig.put((request, b"x", ANSWERED))
    del request
    assert rig.heard(1) == [(1, ANSWERED, b"x")]
    assert kept() is None


def test_mail_that_raises_is_told_and_the_rest_leaves(rig: Rig) -> None:
    def broken() -> None:
        raise LookupError

    rig.put((requested(1), b"a", ANSWERED), broken, (requested(2), b"b", ANSWERED))
    assert rig.heard(2) == [(1, ANSWERED, b"a"), (2, ANSWERED, b"b")]
    assert list(map(type, rig.crashes)) == [LookupError]


def test_a_sender_that_cannot_go_on_says_so(rig: Rig) -> None:
    """Mail that is none is a bug of this package: the process ends, and does not fall silent."""
    rig.put((requested(1), b"too short"))
    eventually(lambda: rig.crashes)
    assert list(map(type, rig.crashes)) == [ValueError]


# -- what cannot leave -----------------------------------------------------------------------------

LARGE = "a frame is too large for the channel to the serving process"
NO_MEMORY = "there is no memory to send it to the serving process"


@pytest.mark.parametrize(("error", "reason"), [(ValueError, LARGE), (MemoryError, NO_MEMORY)])
@pytest.mark.parametrize(
    ("mail", "instead"),
    [
        ((requested(5), b"huge", ANSWERED), lambda reason: ("unsendable", 5, reason)),
        ((requested(5), [b"", b"huge"], FAILED), lambda reason: ("unsendable", 5, reason)),
        ((requested(5), b"huge", STREAM_ITEMS), lambda reason: ("event", LOST_STREAM_ITEMS, 1)),
        (
            (ReplyEnvelope([b"peer", b""], 2), b"huge", PUSHES),
            lambda reason: ("event", LOST_PUSHES, 1),
        ),
        (
            (AddressedPush([b"peer", b""], lambda peer: None), b"huge", PUSHES),
            lambda reason: ("event", LOST_PUSHES, 1),
        ),
        (on_error_ended(9, True, b"huge"), lambda reason: ("on_error_ended", 9, False, reason)),
    ],
    ids=["reply", "failure", "stream item", "push", "pair", "on_error"],
)
def test_what_cannot_be_written_is_lost_alone_and_something_is_said_for_it(
    rig: Rig,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    mail: Any,
    instead: Callable[[str], Any],
    error: type[Exception],
    reason: str,
) -> None:
    def poor(batch: list[Any]) -> bytes:
        if b"huge" in repr(batch).encode():
            raise error
        return encoded(batch)

    monkeypatch.setattr(stream, "encoded", poor)
    rig.put((requested(1), b"before", ANSWERED))
    rig.sender.say(mail) if isinstance(mail[0], str) else rig.put(mail)
    rig.put((requested(2), b"after", ANSWERED))
    assert rig.heard(3) == [(1, ANSWERED, b"before"), instead(reason), (2, ANSWERED, b"after")]
    assert [record.getMessage() for record in caplog.records] == [f"{reason}: a message is lost"]
    assert not rig.crashes


def test_nothing_is_sent_twice_after_a_batch_that_could_not_be(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.put((requested(1), range(2), ANSWERED), (requested(2), b"b", ANSWERED))
    assert [message[:2] for message in rig.heard(2)] == [("unsendable", 1), (2, ANSWERED)]
    rig.put((requested(3), b"c", ANSWERED))
    assert rig.heard(1) == [(3, ANSWERED, b"c")]


def test_a_serving_process_that_does_not_read_makes_nobody_wait(rig: Rig) -> None:
    """Stopped, or busy: what it is told is kept, in order."""
    rig.serving._read.stop()
    for number in range(50):
        rig.put((requested(number), bytes(100_000), ANSWERED))
    eventually(lambda: rig.mailbox.empty() and rig.channel.waiting_bytes > 2_000_000)
    rig.serving._read.start(rig.serving._readable)
    assert [key for key, *_ in rig.heard(50)] == list(range(50))


def test_a_serving_process_that_is_gone_is_told_nothing_and_that_is_no_error(rig: Rig) -> None:
    rig.serving.close()
    rig.put((requested(1), b"x", ANSWERED))
    eventually(lambda: rig.channel.closed and rig.mailbox.empty())
    rig.put((requested(2), b"x", ANSWERED))
    eventually(rig.mailbox.empty)
    assert not rig.crashes


# -- windows ---------------------------------------------------------------------------------------


def test_whoever_waits_for_a_client_is_called_when_the_serving_process_says_so(rig: Rig) -> None:
    """It is asked behind the items that were put before."""
    routes, called = Routes(rig.sender.route), list[str]()
    rig.put(
        (requested(1), b"item", STREAM_ITEMS),
        lambda: rig.sender.when_clear(b"a", lambda: called.append("a")),
        lambda: rig.sender.when_clear(b"b", lambda: called.append("b")),
    )
    item, first, second = rig.heard(3)
    assert item == (1, STREAM_ITEMS, b"item")
    assert (first[0], first[2], second[0], second[2]) == ("when_clear", b"a", "when_clear", b"b")
    routes.take(clear(second[1]))
    assert called == ["b"]
    routes.take(clear(first[1]))
    assert called == ["b", "a"]
    with pytest.raises(KeyError):
        routes.take(clear(first[1]))


# -- a whole worker --------------------------------------------------------------------------------


def test_a_reply_that_no_channel_carries_fails_alone(service: Callable[..., Service]) -> None:
    """2 GiB, of memory that nobody has touched: the worker, and the other replies in its hands,
    survive it."""
    server = service(
        """
def handle_request(request):
    return bytes(2**31) if request.data == b"huge" else request.data
def on_error(request, error):
    return str(error).encode()
""",
        "--workers",
        "1",
        "--on-error",
        "app:on_error",
    )
    pids = server.workers()
    dealer = server.client(zmq.DEALER)
    for word in (b"before", b"huge", b"after"):
        dealer.send_multipart([b"", word])
    assert sorted(dealer.recv_multipart()[-1] for _ in range(3)) == [
        b"a frame is too large for the channel to the serving process",
        b"after",
        b"before",
    ]
    assert server.workers() == pids
    stats = server.wait_for(lambda stats: stats["sum"]["in_flight"] == 0)
    assert stats["sum"]["fates"]["failed"] == stats["workers"][0]["stats"]["fates"]["failed"] == 1
