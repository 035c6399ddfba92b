"""Errors cross a channel as plain data, and arrive as what they were where that has a meaning."""

from __future__ import annotations

import marshal

import pytest

from green_router.errors import HandlerError, HandlerTimeout, WorkerLost
from green_router.processes.channel.encoding import described, properties, restored


@pytest.mark.parametrize(
    "error",
    [HandlerTimeout(2.5), WorkerLost(4711, "was killed by SIGKILL"), HandlerError("no reply")],
    ids=lambda error: error.code,
)
def test_what_has_a_meaning_arrives_as_it_was(error: HandlerError) -> None:
    arrived = restored(marshal.loads(marshal.dumps(described(error))))
    assert (type(arrived), str(arrived), arrived.args) == (type(error), str(error), error.args)


def test_of_all_others_the_name_and_the_words() -> None:
    arrived = restored(described(KeyError("x")))
    assert (type(arrived), str(arrived)) == (HandlerError, "KeyError: 'x'")


def test_what_is_known_of_a_peer_goes_by_the_names_of_properties() -> None:
    assert properties("::1", None) == {"Peer-Address": "::1"}
    assert properties(None, {"User-Id": "joe", "Role": None}) == {
        "Peer-Address": None,
        "User-Id": "joe",
        "Role": None,
    }
