"""Who gets which request, and what becomes of those whose worker or client is gone.

The workers are scripted (support/scripted_workers.py); what real ones do is in test_server.py, and
what becomes of what they say in test_answers.py.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import gevent
import pytest
import zmq
from scripted_workers import NEVER, SOON, FrontHere, Rig, Scripted

from green_router.messages.ledger import ANSWERED, PEER_GONE, STREAM_ITEMS
from green_router.messages.request import Request
from green_router.processes.channel import stream
from green_router.processes.channel.stream import encoded
from green_router.serving.parts import real_router
from green_router.testing import eventually, settled

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


# -- what no channel carries -----------------------------------------------------------------------


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
    second.backend.close()
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
    second.backend.close()
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
