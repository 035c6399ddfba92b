"""Who may connect, asked of the application's callable in a worker; what real clients get is in
processes/test_access.py."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
import pytest
from scripted_workers import SOON, Rig, Scripted

from green_router.errors import HandlerError
from green_router.testing import DEADLINE, eventually

WORDS = ("joe", "sesame", "127.0.0.1")


class Asker:
    """Asks, in a greenlet of its own, as the ZAP handler does."""

    def __init__(self, here: Rig) -> None:
        calls = here.front.dispatcher._access_calls
        self.greenlet = gevent.spawn(calls.ask, "plain", *WORDS)
        gevent.idle()

    def is_told(self) -> Any:
        return self.greenlet.get(timeout=DEADLINE)


def asked(worker: Scripted) -> int:
    """The token of the next question that this worker is asked."""
    _, token, *question = worker.take("authorize")
    assert question == ["plain", WORDS]
    return int(token)


@pytest.mark.parametrize("said", [True, False, None, "joe", {"user_id": "joe", "role": None}, 0])
def test_what_a_callable_says_is_handed_on_as_it_is(rig: Callable[..., Rig], said: Any) -> None:
    here = rig()
    worker = here.worker()
    asker = Asker(here)
    worker.say(("authorized", asked(worker), True, said))
    assert asker.is_told() == said


def test_one_that_raises_is_an_error_that_names_the_setting_and_the_process(
    rig: Callable[..., Rig],
) -> None:
    here = rig()
    worker = here.worker()
    asker = Asker(here)
    worker.say(("authorized", asked(worker), False, None))
    with pytest.raises(HandlerError, match=r"callable of plain has raised, in worker process 1$"):
        asker.is_told()


def test_answers_come_in_any_order(rig: Callable[..., Rig]) -> None:
    here = rig()
    worker = here.worker()
    askers = [Asker(here) for _ in range(3)]
    tokens = [asked(worker) for _ in askers]
    for token, name in zip(reversed(tokens), ("c", "b", "a"), strict=True):
        worker.say(("authorized", token, True, name))
    assert [asker.is_told() for asker in askers] == ["a", "b", "c"]


def test_the_one_that_has_least_in_hand_is_asked(rig: Callable[..., Rig]) -> None:
    here = rig()
    busy, free = here.worker(), here.worker()
    here.ask(b"1", b"2")
    free.answer()
    asker = Asker(here)
    free.say(("authorized", asked(free), True, True))
    assert asker.is_told() is True
    assert busy.requests() == [b"1"]


def test_one_that_has_not_given_up_is_asked_last(rig: Callable[..., Rig]) -> None:
    """Its loop may be blocked; but where there is no other, it is asked all the same."""
    here = rig(handler_timeout=SOON)
    blocked = here.worker()
    here.ask(b"x")
    key = blocked.take("end")[1]
    alone = Asker(here)
    token = asked(blocked)
    busy = here.worker()
    here.ask(b"1", b"2")
    asker = Asker(here)
    busy.say(("authorized", asked(busy), True, "busy"))
    blocked.say(("authorized", token, True, "blocked"), ("ended", key))
    assert (alone.is_told(), asker.is_told()) == ("blocked", "busy")


def test_where_there_is_no_worker_it_waits_for_one(rig: Callable[..., Rig]) -> None:
    here = rig()
    askers = [Asker(here) for _ in range(2)]
    worker = here.worker()
    for asker in askers:
        worker.say(("authorized", asked(worker), True, True))
        assert asker.is_told() is True


def test_what_is_lost_with_a_worker_is_asked_of_another_one(rig: Callable[..., Rig]) -> None:
    here = rig()
    first = here.worker()
    asker = Asker(here)
    asked(first)
    first.die()
    second = here.worker()
    asked(second)
    second.die()
    third = here.worker()
    third.say(("authorized", asked(third), True, "third"))
    assert asker.is_told() == "third"


def test_the_loss_of_a_worker_asks_nothing_again_of_others(rig: Callable[..., Rig]) -> None:
    here = rig()
    first, second = here.worker(), here.worker()
    here.ask(b"x")  # the first one has it, so the second one is asked
    asker = Asker(here)
    token = asked(second)
    first.die()
    assert not second.heard
    second.say(("authorized", token, True, True))
    assert asker.is_told() is True


def test_an_answer_for_which_nobody_waits_any_more_is_none(rig: Callable[..., Rig]) -> None:
    """Whoever asked has let go: a handshake does not wait for ever."""
    here = rig()
    worker = here.worker()
    asker = Asker(here)
    token = asked(worker)
    asker.greenlet.kill()
    worker.say(("authorized", token, True, True))
    worker.say(("authorized", 12345, False, None))
    assert worker in here.workers and not worker.backend.channel.closed
    again = Asker(here)
    second = asked(worker)
    assert second != token
    worker.say(("authorized", second, True, "again"))
    assert again.is_told() == "again"


def test_an_answer_that_is_no_message_costs_its_worker_and_not_the_question(
    rig: Callable[..., Rig],
) -> None:
    here = rig()
    worker = here.worker()
    asker = Asker(here)
    worker.say(("authorized", asked(worker)))
    eventually(lambda: worker.backend.channel.closed)
    other = here.worker()
    other.say(("authorized", asked(other), True, "other"))
    assert asker.is_told() == "other"
