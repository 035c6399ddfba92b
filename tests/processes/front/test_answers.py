"""What becomes of what workers say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import zmq
from scripted_workers import NEVER, SOON, Rig

from green_router.messages.ledger import ANSWERED, FAILED, LATE, STREAM_ITEMS
from green_router.testing import eventually

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
    here.time_out(worker, key, NEVER)
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


def test_a_second_answer_is_late(rig: Callable[..., Rig]) -> None:
    here = rig()
    worker = here.worker()
    here.ask(b"x")
    key = worker.take()[0]
    worker.say((key, ANSWERED, b"one"), (key, ANSWERED, b"two"), (key, STREAM_ITEMS, b"three"))
    assert here.reply() == b"one"
    assert worker.row == {"answered": 1, "late": 2, "received": 1, "in_flight": 0}
    here.ask(b"y")
    worker.answer()
    assert here.reply() == b"y", "the client has had one reply, and now the next one"
    assert here.counts() == {"answered": 2, "late": 2}


def test_a_stream_that_is_settled_elsewhere_is_ended_at_its_next_item(
    rig: Callable[..., Rig],
) -> None:
    """The worker has not been told yet: of all its items it is told once, and the rest is late."""
    here = rig(handler_timeout=NEVER)
    worker = here.worker()
    here.ask(b"x")
    key = worker.take()[0]
    here.time_out(worker, key, NEVER)
    worker.received([(key, STREAM_ITEMS, b"1"), (key, STREAM_ITEMS, b"2")])
    assert worker.take("end") == ("end", key, None)
    assert worker.row == {"timed_out": 1, "late": 1, "received": 1, "in_flight": 0}
    assert worker.backend.busy == 1
    worker.say(("ended", key))
    assert worker.backend.busy == 0
    assert not worker.heard


def test_a_handler_that_has_failed_has_no_deadline_any_more(rig: Callable[..., Rig]) -> None:
    """Its on_error is being asked in its worker, and what that says is the answer."""
    here = rig(explains=True, handler_timeout=SOON)
    worker = here.worker()
    here.ask(b"fails", b"late")
    failing, late = (worker.take()[0] for _ in range(2))
    worker.say(("failing", failing))
    assert worker.take("end") == ("end", late, SOON)
    worker.say(("ended", late), ("failing", 12345))
    assert not [message for message in worker.heard if message[0] == "end"]
    worker.say((failing, FAILED, b"sorry"))
    assert here.reply() == b"sorry"
    assert worker.row == {"failed": 1, "timed_out": 1, "received": 2, "in_flight": 0}
    worker.say(("on_error_ended", worker.take("call_on_error")[1], True, b"too late"))
    assert here.reply() == b"too late"


def test_an_on_error_whose_words_cannot_be_carried_has_failed_all_the_same(
    rig: Callable[..., Rig],
) -> None:
    """It is not asked again: the client gets nothing."""
    here = rig(explains=True)
    worker = here.worker()
    here.ask(b"x")
    key = worker.take()[0]
    worker.say(("failing", key), ("unsendable", key, "too large"), ("unsendable", key, "again"))
    eventually(lambda: here.counts() == {"failed": 1})
    assert worker.row == {"failed": 1, "received": 1, "in_flight": 0}
    assert not worker.heard


# -- what it says besides --------------------------------------------------------------------------


def test_a_push_goes_to_its_client_and_is_counted(rig: Callable[..., Rig]) -> None:
    here = rig()
    worker, client = here.worker(), here.front.client(zmq.DEALER, routing_id=b"client")
    client.send_multipart([b"", b"x"])
    worker.answer()
    assert client.recv_multipart() == [b"", b"x"]
    worker.say(("push", [b"client", b""], [b"a", b"b"]), ("pair", [b"client", b""], b"c"))
    assert [client.recv_multipart() for _ in range(2)] == [[b"", b"a", b"b"], [b"", b"c"]]
    assert here.counts() == {"answered": 1, "pushes": 2}
    assert worker.row == {"answered": 1, "pushes": 2, "received": 1, "in_flight": 0}


def test_a_push_to_nobody_is_lost_and_said(
    rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    here = rig()
    worker = here.worker()
    worker.say(("pair", [b"nobody", b""], b"x"), ("push", [b"nobody", b""], b"x"))
    eventually(lambda: here.counts() == {"lost_pushes": 2})
    assert worker.row == {"pushes": 2, "received": 0, "in_flight": 0}
    assert caplog.text.count("returned a tuple of two") == 1, "push() may be to one that has gone"


def test_what_a_worker_counts_is_counted_for_all(rig: Callable[..., Rig]) -> None:
    here = rig()
    first, second = here.worker(), here.worker()
    first.say(("event", LATE, 3))
    second.say(("event", LATE, 2), ("event", LATE, 2))
    assert (first.row["late"], second.row["late"]) == (3, 4)
    assert here.counts() == {"late": 7}


def test_a_worker_is_told_when_its_client_has_taken_everything(rig: Callable[..., Rig]) -> None:
    here = rig()
    worker = here.worker()
    for token in (5, 6):
        worker.say(("when_clear", token, b"nobody"))
    assert [worker.take("clear") for _ in range(2)] == [("clear", 5), ("clear", 6)]


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
