"""What the serving process makes of what workers say, and of their silence.

The workers are scripted: each is the other end of a line, in the hand of the test, and does what no
well-behaved one does at the right moment. What real ones do is in test_server.py.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import gevent
import pytest
import zmq

from green_router.messages.ledger import ANSWERED, PEER_GONE, STREAM_ITEMS
from green_router.messages.request import Request
from green_router.processes.channel import stream
from green_router.processes.channel.protocol import Routes
from green_router.processes.channel.stream import Channel, encoded
from green_router.processes.front.backend import Backend
from green_router.processes.front.dispatcher import Dispatcher
from green_router.processes.front.error_calls import TRIES, OnErrorCall
from green_router.processes.front.server import Front
from green_router.serving.parts import MakeRouter, real_router
from green_router.testing import DEADLINE, RunningServer, assert_balanced, eventually, settled

SOON = 0.05
"""Seconds until a request that nobody answers times out."""

NEVER = 100 * DEADLINE
"""A timeout that no test sees pass."""


def nothing() -> None:
    """Do nothing."""


class FrontHere(RunningServer):
    """A server whose handlers run in workers, with clients at hand. Attributes: dispatcher, from
    ``start`` on."""

    def __init__(
        self,
        window: int,
        retries: int,
        explains: bool,
        tells: bool,
        crashed: Callable[[BaseException], None],
        router: MakeRouter = real_router,
        **settings: Any,
    ) -> None:
        self._front = front = Front(
            "app:handle", window, retries, explains, tells, crashed, settings
        )
        super().__init__(front.handler, replace(front.parts, router=router), **front.settings)

    @property
    def dispatcher(self) -> Dispatcher:
        return self._front.dispatcher


class Scripted:
    """A worker that says what the test wants. Attributes: heard, what it was told and has not been
    taken out."""

    def __init__(
        self, front: FrontHere, limit: int | None = None, recycle: Callable[[], None] = nothing
    ) -> None:
        ours, theirs = socket.socketpair()
        self.front, self.heard, self._open = front, [], True
        self._channel = Channel(theirs.detach(), self.heard.extend, lambda: None)
        self._backend_channel = Channel(ours.detach(), self._said, self._gone)
        self.backend = Backend(1, self._backend_channel, Routes(), nothing, limit, recycle)
        self.received = front.dispatcher.add(self.backend)

    def _said(self, batch: list[Any]) -> None:
        self.received(batch)

    def _gone(self) -> None:
        self.front.dispatcher.lost(self.backend, "ended")

    def say(self, *messages: Any) -> None:
        """Tell the dispatcher, and wait until it has heard."""
        self._channel.send([*messages])
        gevent.sleep(0)
        gevent.idle()

    def take(self, kind: str = "request") -> Any:
        """The next of what it was told that is a request, or begins with that word. **Blocks**
        until it is there."""

        def find() -> Any:
            return next(
                (
                    message
                    for message in self.heard
                    if (message[0] == kind or (kind == "request" and isinstance(message[0], int)))
                ),
                None,
            )

        message = eventually(find)
        self.heard.remove(message)
        return message

    def requests(self) -> list[bytes]:
        """The bodies of the requests that it was given and that were not taken."""
        return [message[3][-1] for message in self.heard if isinstance(message[0], int)]

    def answer(self) -> None:
        """Echo the next request."""
        key, _, _, frames, *_ = self.take()
        self.say((key, ANSWERED, frames[-1]))

    def die(self) -> None:
        """End, as a killed process does."""
        if self._open:
            self._open = False
            self._channel.close()
            eventually(lambda: self._backend_channel.closed)

    @property
    def row(self) -> dict[str, Any]:
        """Its statistics, in balance, without what is zero."""
        row = self.backend.snapshot()
        assert row["received"] == sum(row["fates"].values()) + row["in_flight"], row
        return {
            name: value for name, value in (*row["fates"].items(), *row["events"].items()) if value
        } | {"received": row["received"], "in_flight": row["in_flight"]}


class Rig:
    """A server, and scripted workers."""

    def __init__(
        self, stack: ExitStack, window: int, retries: int, explains: bool, settings: dict[str, Any]
    ) -> None:
        tells = settings.pop("tells", False)
        self.crashes: list[BaseException] = []
        self.front = FrontHere(window, retries, explains, tells, self.crashes.append, **settings)
        self.front.bind("tcp://127.0.0.1:0")
        self.front.start()
        self.workers: list[Scripted] = []
        stack.callback(self._close)
        self.dealer = self.front.client(zmq.DEALER)

    def _close(self) -> None:
        assert_balanced(self.front)
        self.front.close_clients()
        self.front.stop(0)
        assert_balanced(self.front)
        for worker in self.workers:
            assert worker.row
            worker.die()
        assert self.crashes == []

    def worker(self, limit: int | None = None, recycle: Callable[[], None] = nothing) -> Scripted:
        self.workers.append(Scripted(self.front, limit, recycle))
        return self.workers[-1]

    def ask(self, *bodies: bytes) -> None:
        """Send these requests; when it returns they are all there, and whoever was given one has
        heard it."""
        before = self.front.stats()["received"]
        for body in bodies:
            self.dealer.send_multipart([b"", body])
        eventually(lambda: self.front.stats()["received"] == before + len(bodies))
        gevent.idle()  # they are handed out ...
        gevent.idle()  # ... and heard

    def reply(self) -> bytes:
        """The next reply that a client gets."""
        with gevent.Timeout(DEADLINE):
            frames: list[bytes] = self.dealer.recv_multipart()
        return frames[-1]

    def counts(self) -> dict[str, int]:
        """What became of everything, without what is zero."""
        stats = self.front.stats()
        return {
            name: value
            for name, value in (*stats["fates"].items(), *stats["events"].items())
            if value
        }


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    """``rig(window=, retries=, explains=, **settings)``."""
    with ExitStack() as stack:

        def make(
            window: int = 128, retries: int = 0, explains: bool = False, **settings: Any
        ) -> Rig:
            return Rig(stack, window, retries, explains, settings)

        yield make


# -- who gets what ---------------------------------------------------------------------------------


def test_each_gets_as_many_as_the_others(rig: Callable[..., Rig]) -> None:
    here = rig()
    here.ask(*(b"%d" % number for number in range(7)))
    workers = [here.worker() for _ in range(3)]
    eventually(lambda: sum(len(worker.requests()) for worker in workers) == 7)
    assert [worker.requests() for worker in workers] == [
        [b"0", b"3", b"6"],
        [b"1", b"4"],
        [b"2", b"5"],
    ]


def test_the_least_busy_catches_up_first(rig: Callable[..., Rig]) -> None:
    here = rig(window=4)
    first = here.worker()
    here.ask(b"a", b"b")
    eventually(lambda: len(first.requests()) == 2)
    # So that all that follows is handed out at once.
    for backend in [here.front.dispatcher.backends.pop()]:
        here.ask(b"c", b"d", b"e", b"f", b"g", b"h", b"i")
        here.front.dispatcher.backends.append(backend)
    second = here.worker()
    eventually(lambda: len(first.requests()) + len(second.requests()) == 8)
    assert first.requests() == [b"a", b"b", b"e", b"g"]
    assert second.requests() == [b"c", b"d", b"f", b"h"]
    assert here.front.stats()["waiting"] == 1
    second.answer()
    eventually(lambda: second.requests() == [b"d", b"f", b"h", b"i"])


def test_who_does_not_give_up_gets_nothing(rig: Callable[..., Rig]) -> None:
    """Its loop may be blocked: each request that it answers to nobody would look like one that it
    has done."""
    here = rig(handler_timeout=SOON)
    silent, other = here.worker(), here.worker()
    here.ask(b"1", b"2")
    key = silent.take()[0]
    assert silent.take("end")[1] == key
    other.say(("ended", other.take("end")[1]))
    assert (silent.backend.busy, other.backend.busy) == (1, 0)
    here.ask(b"3", b"4")
    assert other.requests() == [b"2", b"3", b"4"]
    silent.say(("ended", key))
    assert silent.backend.busy == 0
    here.ask(b"5")
    eventually(lambda: silent.requests() == [b"5"])


def test_where_nobody_gives_up_requests_wait(rig: Callable[..., Rig]) -> None:
    here = rig(window=2, handler_timeout=SOON)
    worker = here.worker()
    here.ask(b"1")
    key = worker.take()[0]
    worker.take("end")
    for _ in range(10):
        here.ask(b"x")
    eventually(lambda: here.counts() == {"timed_out": 11})
    assert worker.requests() == []
    worker.say(("ended", key))
    here.ask(b"2")
    eventually(lambda: worker.requests() == [b"2"])


def test_a_closed_lane_gets_nothing_and_says_when_it_is_empty(rig: Callable[..., Rig]) -> None:
    here = rig(handler_timeout=SOON)
    worker, other = here.worker(), here.worker()
    here.ask(b"1")
    drained: list[bool] = []
    here.front.dispatcher.retire(worker.backend, lambda: drained.append(True))
    here.ask(b"2", b"3")
    assert (worker.requests(), other.requests()) == ([b"1"], [b"2", b"3"])
    key = worker.take("end")[1]
    assert drained == []
    worker.say(("ended", key))
    assert drained == [True]


def test_that_a_worker_has_done_its_share_is_told_once(rig: Callable[..., Rig]) -> None:
    here = rig()
    told: list[bool] = []
    here.worker(limit=3, recycle=lambda: told.append(True))
    here.ask(b"1", b"2")
    assert told == []
    here.ask(b"3", b"4", b"5")
    eventually(lambda: told)
    assert told == [True]


# -- who settles a request -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "late"),
    [
        (lambda key: (key, ANSWERED, b"x"), {"late": 1}),
        (lambda key: ("unsendable", key, "too large"), {}),
    ],
)
def test_a_reply_that_meets_its_deadline_is_late(
    rig: Callable[..., Rig], said: Callable[[int], Any], late: dict[str, int]
) -> None:
    """It is claimed, and the worker has not been told yet: the rows keep their balance."""
    here = rig(handler_timeout=NEVER)
    worker = here.worker()
    here.ask(b"x")
    key = worker.take()[0]
    request = worker.backend.assignments[key].request
    request.received_at -= NEVER
    here.front._failures.time_out(request, NEVER)
    worker.received([said(key)])
    eventually(lambda: here.counts() == {"timed_out": 1, **late})
    assert worker.row == {"timed_out": 1, **late, "received": 1, "in_flight": 0}
    assert worker.backend.busy == 0
    assert worker.heard == []


def test_a_reply_after_the_deadline_is_late(rig: Callable[..., Rig]) -> None:
    here = rig(handler_timeout=SOON)
    worker = here.worker()
    here.ask(b"x")
    key = worker.take("end")[1]
    worker.say((key, ANSWERED, b"x"), ("ended", key))
    assert worker.row == {"timed_out": 1, "late": 1, "received": 1, "in_flight": 0}
    assert here.counts() == {"timed_out": 1, "late": 1}


def test_what_the_end_cuts_off_is_abandoned(rig: Callable[..., Rig]) -> None:
    here = rig()
    worker = here.worker()
    here.ask(b"1", b"2")
    key = worker.take()[0]
    here.front.stop(0)
    worker.say((key, ANSWERED, b"1"))
    eventually(lambda: worker.row["in_flight"] == 0)
    assert worker.row["abandoned"] == 2


def test_what_cannot_be_said_has_failed(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True)
    worker = here.worker()
    here.ask(b"x")
    worker.say(("unsendable", worker.take()[0], "too large"))
    _, token, error, *_ = worker.take("call_on_error")
    assert error == ("failed", ("too large",))
    worker.say(("on_error_ended", token, True, b"sorry"))
    assert here.reply() == b"sorry"
    assert worker.row == {"failed": 1, "received": 1, "in_flight": 0}


def test_what_is_no_plain_data_fails_alone(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True)
    here.ask(b"1", b"2", b"3")
    here.front.dispatcher.inbox[1].frames[-1] = range(2)  # in the place of a frame of 2 GiB
    worker = here.worker()
    eventually(lambda: worker.requests() == [b"1", b"3"])
    # Nor can on_error be asked about it.
    eventually(lambda: here.counts() == {"failed": 1, "callback_errors": 1})
    assert worker.row == {"failed": 1, "received": 3, "in_flight": 2}


def test_a_batch_for_which_there_is_no_memory_goes_singly(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of it is lost: what can be written is, the rest fails."""
    here = rig()
    here.ask(b"1", b"huge", b"3")

    def poor(batch: list[Any]) -> bytes:
        if len(batch) > 1 or batch[0][3][-1] == b"huge":
            raise MemoryError
        return encoded(batch)

    monkeypatch.setattr(stream, "encoded", poor)
    worker = here.worker()
    eventually(lambda: worker.requests() == [b"1", b"3"])
    monkeypatch.undo()
    eventually(lambda: here.counts() == {"failed": 1})
    worker.answer()
    worker.answer()
    assert (here.reply(), here.reply()) == (b"1", b"3")


# -- a worker is lost ------------------------------------------------------------------------------


def test_what_is_lost_fails(rig: Callable[..., Rig]) -> None:
    here = rig()
    worker = here.worker()
    here.ask(b"1", b"2", b"3")
    worker.answer()
    assert here.reply() == b"1"
    worker.die()
    eventually(lambda: here.counts() == {"answered": 1, "failed": 2, "lost": 2})
    assert worker.row == {"answered": 1, "failed": 2, "lost": 2, "received": 3, "in_flight": 0}


def test_what_is_lost_is_tried_again_in_order(rig: Callable[..., Rig]) -> None:
    """Two workers are lost, one after the other: the oldest request goes first all the same."""
    here = rig(retries=1)
    first, second = here.worker(), here.worker()
    for body in (b"1", b"2", b"3", b"4"):
        here.ask(body)
    assert (first.requests(), second.requests()) == ([b"1", b"3"], [b"2", b"4"])
    here.front.dispatcher.close_backend(second.backend)
    first.die()
    here.ask(b"5")
    second.die()
    third = here.worker()
    eventually(lambda: third.requests() == [b"1", b"2", b"3", b"4", b"5"])
    assert here.counts() == {"lost": 4, "retried": 4}
    assert first.row == {"lost": 2, "retried": 2, "received": 0, "in_flight": 0}
    for _ in range(5):
        third.answer()
    assert [here.reply() for _ in range(5)] == [b"1", b"2", b"3", b"4", b"5"]
    assert third.row == {"answered": 5, "received": 5, "in_flight": 0}


def test_a_request_is_tried_as_often_as_it_may(rig: Callable[..., Rig]) -> None:
    here = rig(retries=2)
    here.ask(b"x")
    for _ in range(3):
        worker = here.worker()
        worker.take()
        worker.die()
    eventually(lambda: here.counts() == {"failed": 1, "lost": 3, "retried": 2})
    here.ask(b"y")
    assert here.worker().take()[3][-1] == b"y"


def test_no_request_is_hashed(rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch) -> None:
    """It would take all of its bytes, and clients can send as many of the same hash as they like:
    it is theirs to choose."""

    def hashed(request: Request) -> int:
        raise AssertionError

    monkeypatch.setattr(Request, "__hash__", hashed)
    here = rig(retries=1)
    first, second = here.worker(), here.worker()
    here.ask(b"same", b"same")
    first.die()
    for _ in range(2):
        second.answer()
    assert [here.reply() for _ in range(2)] == [b"same", b"same"]
    assert here.counts() == {"answered": 2, "lost": 1, "retried": 1}
    assert not here.front.dispatcher._tries


def test_a_stream_that_was_cut_is_not_tried_again(rig: Callable[..., Rig]) -> None:
    here = rig(retries=1)
    worker = here.worker()
    here.ask(b"x")
    worker.say((worker.take()[0], STREAM_ITEMS, b"part"))
    assert here.reply() == b"part"
    worker.die()
    eventually(lambda: here.counts() == {"failed": 1, "stream_items": 1, "lost": 1})


def test_a_request_that_is_tried_again_keeps_its_deadline(rig: Callable[..., Rig]) -> None:
    here = rig(retries=1, handler_timeout=NEVER)
    first, second = here.worker(), here.worker()
    here.ask(b"old")
    key = first.take()[0]
    here.ask(b"young")
    second.take()
    # As if it had waited for so long.
    first.backend.assignments[key].request.received_at -= NEVER - SOON
    first.die()
    eventually(lambda: here.counts() == {"timed_out": 1, "lost": 1, "retried": 1})
    assert second.take("end")[1] == second.take()[0]


def test_one_that_waits_again_keeps_its_deadline(rig: Callable[..., Rig]) -> None:
    here = rig(retries=1, handler_timeout=NEVER)
    first, second = here.worker(), here.worker()
    here.ask(b"old")
    key = first.take()[0]
    here.ask(b"young")
    here.front.dispatcher.close_backend(second.backend)
    first.backend.assignments[key].request.received_at -= NEVER - SOON
    first.die()
    eventually(lambda: here.counts() == {"timed_out": 1, "lost": 1, "retried": 1})


def test_one_that_times_out_while_it_waits_again_is_forgotten(
    rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL)  # a record that is kept would keep the request
    here = rig(retries=1, handler_timeout=SOON)
    worker = here.worker()
    here.ask(b"x")
    worker.die()
    eventually(lambda: here.counts() == {"lost": 1, "retried": 1, "timed_out": 1})
    eventually(lambda: not len(here.front.dispatcher._tries))


# -- on_error --------------------------------------------------------------------------------------


def test_on_error_is_asked_elsewhere(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True, handler_timeout=SOON)
    silent, other = here.worker(), here.worker()
    here.ask(b"x")
    _, token, error, envelope_length, _, frames, *_ = other.take("call_on_error")
    assert (error, frames[envelope_length:]) == (("timed_out", (SOON,)), [b"x"])
    other.say(("on_error_ended", token, True, [b"a", b"b"]))
    assert here.dealer.recv_multipart() == [b"", b"a", b"b"]
    assert other.row == {"received": 0, "in_flight": 0}
    assert silent.backend.busy == 1


def test_on_error_waits_for_a_worker_that_turns(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True, handler_timeout=SOON)
    worker = here.worker()
    here.ask(b"x")
    key = worker.take("end")[1]
    here.ask()
    assert [message[0] for message in worker.heard] == [key]
    worker.say(("ended", key))
    token = worker.take("call_on_error")[1]
    worker.say(("on_error_ended", token, True, b"late"))
    assert here.reply() == b"late"


def test_on_error_is_asked_again_when_its_worker_is_lost(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True)
    here.worker().die()
    here.ask(b"x")
    for _ in range(TRIES):
        worker = here.worker()
        worker.take("call_on_error") if worker is not here.workers[1] else worker.take()
        worker.die()
    worker = here.worker()
    token = worker.take("call_on_error")[1]
    worker.say(("on_error_ended", token, True, b"told"))
    assert here.reply() == b"told"
    assert here.counts() == {"failed": 1, "lost": 1}


def test_on_error_is_not_asked_for_ever(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True)
    here.ask(b"x")
    worker = here.worker()
    worker.take()
    worker.die()
    for _ in range(TRIES):
        worker = here.worker()
        worker.take("call_on_error")
        worker.die()
    eventually(lambda: here.counts() == {"failed": 1, "lost": 1, "callback_errors": 1})


def test_an_on_error_that_raises_is_counted(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True)
    worker = here.worker()
    here.ask(b"x")
    worker.say(("unsendable", worker.take()[0], "too large"))
    worker.say(("on_error_ended", worker.take("call_on_error")[1], False, "ValueError: broken"))
    eventually(lambda: here.counts() == {"failed": 1, "callback_errors": 1})


def test_questions_are_bounded_by_the_window(rig: Callable[..., Rig]) -> None:
    here = rig(window=3, explains=True)
    here.ask(*(b"x" for _ in range(10)))
    first = here.worker()
    for _ in range(3):
        first.take()
    first.die()
    second = here.worker()
    questions = [second.take("call_on_error") for _ in range(3)]
    assert second.backend.busy == 3
    assert second.requests() == []
    for _, token, *_ in questions:
        second.say(("on_error_ended", token, True, b"lost"))
    assert [here.reply() for _ in range(3)] == [b"lost"] * 3
    eventually(lambda: len(second.requests()) == 3)


def test_where_no_worker_has_room_no_question_is_looked_at(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Thousands may wait, and this happens at each turn."""
    looked_at: list[OnErrorCall] = []
    monkeypatch.setattr(
        OnErrorCall, "held_by", lambda question, backend: looked_at.append(question)
    )
    here = rig(window=1, explains=True, handler_timeout=SOON)
    worker = here.worker()
    here.ask(b"x")
    worker.die()
    here.ask(*(b"x" for _ in range(20)))
    full = here.worker()
    full.take("call_on_error")
    eventually(lambda: len(here.front.dispatcher._error_calls.waiting) == 20)
    looked_at.clear()
    here.front.dispatcher.schedule()
    gevent.idle()
    assert looked_at == []


# -- who asks --------------------------------------------------------------------------------------


def test_the_user_id_goes_along(rig: Callable[..., Rig]) -> None:
    """What ZAP says of a connection, a worker gets to know: here a ZAP handler that knows everybody
    by one name."""

    def secured(*wanted: Any) -> Any:
        router = real_router(*wanted)
        router.socket.zap_domain = b"test"
        return router

    front = FrontHere(128, 0, False, False, lambda error: None, secured)
    zap = front.context.socket(zmq.REP)
    zap.bind("inproc://zeromq.zap.01")

    def say_yes() -> None:
        while True:
            version, request_id, *_ = zap.recv_multipart()
            zap.send_multipart([version, request_id, b"200", b"OK", b"somebody", b""])

    guard = gevent.spawn(say_yes)
    front.bind("tcp://127.0.0.1:0")
    front.start()
    try:
        worker = Scripted(front)
        front.client(zmq.DEALER).send_multipart([b"", b"x"])
        assert worker.take()[4:] == ("127.0.0.1", {"User-Id": "somebody", "Role": None})
    finally:
        guard.kill()
        zap.close(0)
        front.close_clients()
        front.stop(0)
        worker.die()


# -- what nobody may say ---------------------------------------------------------------------------


@pytest.mark.parametrize("message", [("nonsense", 1), ("ended",), ("ping", 1)], ids=str)
def test_a_worker_that_says_what_is_no_message_is_lost(
    rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture, message: tuple[Any, ...]
) -> None:
    """It is not passed over: the channel is closed, and what the worker had in hand fails as with
    any that is lost."""
    here = rig()
    worker = here.worker()
    here.ask(b"x")
    worker.say(message)
    eventually(lambda: here.counts() == {"failed": 1, "lost": 1})
    assert "is no message that is expected here" in caplog.text


# -- clients that go -------------------------------------------------------------------------------


def test_workers_are_told_of_clients_that_are_gone_and_settle_their_requests(
    rig: Callable[..., Rig],
) -> None:
    here = rig(window=2, tells=True)
    worker = here.worker()
    client = here.front.client(zmq.DEALER, routing_id=b"client")
    for data in (b"begun", b"not begun", b"not sent"):
        client.send_multipart([b"", data])
    eventually(lambda: worker.requests() == [b"begun", b"not begun"])
    begun, not_begun = (worker.take()[0] for _ in range(2))
    client.close(0)
    assert [worker.take("peer_gone")[1] for _ in range(2)] == [begun, not_begun]
    assert worker.take("disconnected")[1] == b"client"
    worker.say((not_begun, PEER_GONE, None), (begun, ANSWERED, b"late"))
    eventually(lambda: settled(here.front, "peer_gone") == 3)
    assert worker.row == {"peer_gone": 1, "answered": 1, "received": 2, "in_flight": 0}
    assert here.front.stats()["events"]["disconnected_busy"] == 1


def test_a_request_whose_client_is_gone_is_not_tried_again(rig: Callable[..., Rig]) -> None:
    here = rig(retries=1)
    worker, client = here.worker(), here.front.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    worker.take()
    client.close(0)
    worker.take("peer_gone")
    worker.die()
    eventually(lambda: settled(here.front, "peer_gone") == 1)
    assert not here.worker().requests()


def test_a_worker_gives_up_what_nobody_waits_for_where_that_is_wanted(
    rig: Callable[..., Rig],
) -> None:
    here = rig(cancel_on_disconnect=True)
    worker, client = here.worker(), here.front.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    key = worker.take()[0]
    client.close(0)
    assert worker.take("end") == ("end", key, None)
    eventually(lambda: settled(here.front, "peer_gone") == 1)
    worker.say(("ended", key))
