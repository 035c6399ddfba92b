"""The application's callables that say who may connect, asked in a worker; what clients get is in
processes/test_access.py."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

import gevent
import pytest

from green_router.processes.channel.protocol import Routes, UnknownMessage, authorize
from green_router.processes.worker.authorizers import NO_ANSWER, Authorizers
from green_router.settings import Settings
from green_router.testing import DEADLINE

WORDS = ("joe", "hunter2", "127.0.0.1")


def told(plain: Callable[..., Any], handshake_timeout: float = 30) -> list[Any]:
    """What the serving process is told when it asks this callable."""
    said: list[Any] = []
    settings = Settings(plain=plain, handshake_timeout=handshake_timeout)
    greenlets: list[gevent.Greenlet[..., Any]] = []
    authorizers = Authorizers(
        settings, lambda task: greenlets.append(gevent.spawn(task)), said.append
    )
    Routes(authorizers.route).take(authorize(3, "plain", WORDS))
    assert not said, "it may block, so it does not run in the hub"
    gevent.joinall(greenlets, timeout=DEADLINE, raise_error=True)
    return said


def test_a_callable_is_asked_with_what_the_client_has_said() -> None:
    asked: list[Any] = []

    def plain(*words: str) -> bool:
        asked.append(words)
        return True

    assert told(plain) == [("authorized", 3, True, True)]
    assert asked == [WORDS]


@pytest.mark.parametrize(
    ("said", "carried"),
    [
        (None, None),
        (False, False),
        ("joe", "joe"),
        ({}, {}),
        ({"user_id": "joe", "role": None}, {"user_id": "joe", "role": None}),
        (MappingProxyType({"user_id": "joe"}), {"user_id": "joe"}),
        (1, NO_ANSWER),
        (b"joe", NO_ANSWER),
        (["joe"], NO_ANSWER),
        ({"user_id": 5}, NO_ANSWER),
        ({5: "joe"}, NO_ANSWER),
        ({"user_id": b"joe"}, NO_ANSWER),
        (type("Name", (str,), {})("joe"), NO_ANSWER),
        (..., NO_ANSWER),
    ],
    ids=repr,
)
def test_what_it_says_goes_on_as_plain_data_or_not_at_all(said: Any, carried: Any) -> None:
    [(_, token, returned, answer)] = told(lambda *words: said)
    assert (token, returned) == (3, True)
    assert (type(answer), answer) == (type(carried), carried)


class Unreadable(Mapping[str, str]):
    """A mapping that cannot be looked into."""

    def __getitem__(self, name: str) -> str:
        raise RuntimeError("hunter2")

    def __iter__(self) -> Iterator[str]:
        raise RuntimeError("hunter2")

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize("raises", ["callable", "answer"])
def test_of_an_error_its_kind_and_place_are_logged_and_none_of_its_words(
    raises: str, caplog: pytest.LogCaptureFixture
) -> None:
    def plain(name: str, password: str, address: str) -> Any:
        if raises == "callable":
            raise RuntimeError(password)
        return Unreadable()

    assert told(plain) == [("authorized", 3, False, None)]
    [record] = caplog.records
    assert record.name == "green_router.security"
    assert "plain raised RuntimeError in " in record.getMessage()
    assert __file__ in record.getMessage()
    assert "hunter2" not in caplog.text


def test_one_that_takes_longer_than_a_handshake_says_nothing_of_the_client() -> None:
    """Nobody waits for it then; and its greenlet is free again."""
    reached: list[str] = []

    def plain(*words: str) -> bool:
        reached.append("begun")
        gevent.sleep(1000)
        reached.append("never")
        return True

    assert told(plain, handshake_timeout=0.01) == [("authorized", 3, True, None)]
    assert reached == ["begun"]


def test_what_ends_a_worker_ends_it_here_too() -> None:
    """A SystemExit is no answer: whoever runs the callable is told."""

    def plain(*words: str) -> bool:
        raise SystemExit(3)

    said: list[Any] = []
    tasks: list[Callable[[], None]] = []
    authorizers = Authorizers(Settings(plain=plain), tasks.append, said.append)
    Routes(authorizers.route).take(authorize(1, "plain", WORDS))
    with pytest.raises(SystemExit):
        tasks[0]()
    assert not said


def test_a_question_without_its_fields_is_no_message() -> None:
    route = Authorizers(Settings(), lambda task: None, lambda message: None).route
    with pytest.raises(UnknownMessage):
        Routes(route).take(("authorize", 1))
