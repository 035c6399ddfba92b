"""The messages of the protocol: made by their kinds, taken by a table, and none that is not in
it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import green_router
from green_router.processes.channel import protocol
from green_router.processes.channel.protocol import TO_SUPERVISOR, TO_WORKER, Routes, UnknownMessage

PROCESSES = Path(green_router.__file__).parent / "processes"


def test_a_kind_makes_its_messages() -> None:
    assert protocol.stop(2.5) == ("stop", 2.5)
    assert protocol.idle() == ("idle",)
    assert protocol.unsendable.fields == ("key", "reason")


def test_a_table_calls_who_takes_them() -> None:
    heard: list[object] = []
    routes = Routes(
        protocol.ping.to(heard.append), protocol.serve.to(lambda: heard.append("serve"))
    )
    routes.add(protocol.stop.to(heard.append))
    routes.take_all([protocol.ping(3), protocol.serve(), protocol.stop(0.5)])
    assert heard == [3, "serve", 0.5]


@pytest.mark.parametrize(
    "message", [("pings", 1), ("ping",), ("ping", 1, 2), (None,), (7, 8, 9)], ids=str
)
def test_what_is_in_no_table_is_an_error(message: tuple[object, ...]) -> None:
    heard: list[object] = []
    with pytest.raises(UnknownMessage, match="is no message that is expected here"):
        Routes(protocol.ping.to(heard.append)).take(message)
    assert heard == []


def test_a_table_has_each_kind_once() -> None:
    with pytest.raises(AssertionError):
        Routes(protocol.idle.to(print), protocol.idle.to(print))


def taken(*folders: str) -> Iterator[str]:
    """The kinds for which the sources of these folders have rows in a table."""
    for folder in folders:
        for path in (PROCESSES / folder).glob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if (
                    isinstance(node, ast.Call)
                    and isinstance(node.func, ast.Attribute)
                    and node.func.attr == "to"
                ):
                    yield ast.unparse(node.func.value).rpartition(".")[2]


def test_each_end_takes_all_that_the_other_may_say() -> None:
    assert sorted(taken("supervisor", "front")) == sorted(TO_SUPERVISOR)
    # The first is read by the program itself.
    assert sorted([*taken("worker"), "boot"]) == sorted(TO_WORKER)


def test_no_name_means_two_things() -> None:
    assert not TO_WORKER.keys() & TO_SUPERVISOR.keys()
