"""on_error, asked in a worker about a request that has failed in the serving process."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from scripted_workers import SOON, Rig

from green_router.processes.channel import stream
from green_router.processes.front.error_calls import TRIES, OnErrorCall
from green_router.testing import eventually


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


def test_the_one_that_has_least_in_hand_is_asked(rig: Callable[..., Rig]) -> None:
    here = rig(explains=True)
    dies = here.worker()
    here.ask(b"lost")
    dies.backend.close()
    busy, free = here.worker(), here.worker()
    here.ask(b"1", b"2", b"3", b"4")
    free.answer()
    free.answer()
    dies.die()
    free.say(("on_error_ended", free.take("call_on_error")[1], True, b"sorry"))
    assert sorted(here.reply() for _ in range(3)) == [b"2", b"4", b"sorry"]
    assert not [message for message in busy.heard if message[0] == "call_on_error"]


def test_a_call_for_which_there_is_no_memory_is_an_error(
    rig: Callable[..., Rig], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is not asked for ever, and its worker is not to blame."""
    here = rig(explains=True)
    dies = here.worker()
    here.ask(b"x")
    other = here.worker()

    def poor(batch: list[Any]) -> bytes:
        raise MemoryError

    monkeypatch.setattr(stream, "encoded", poor)
    dies.die()
    eventually(lambda: here.counts() == {"failed": 1, "lost": 1, "callback_errors": 1})
    monkeypatch.undo()
    assert other.backend.busy == 0
    here.ask(b"y")
    other.answer()
    assert here.reply() == b"y"


def test_an_answer_that_nobody_has_asked_for_costs_its_worker(
    rig: Callable[..., Rig], caplog: pytest.LogCaptureFixture
) -> None:
    here = rig(explains=True)
    liar, other = here.worker(), here.worker()
    here.ask(b"x")
    liar.say(("on_error_ended", 12345, True, b"nonsense"))
    eventually(lambda: liar.backend.channel.closed)
    assert "handling what came on the worker channel failed" in caplog.text
    other.say(("on_error_ended", other.take("call_on_error")[1], True, b"sorry"))
    assert here.reply() == b"sorry"
