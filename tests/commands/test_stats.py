"""``green-router stats``, of supervisors in the hand of a test: whom it asks, what it makes of an
answer. What real ones answer is in processes/supervisor/test_supervisor.py."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from gevent.threadpool import ThreadPool

from green_router.commands import main, stats
from green_router.errors import GreenRouterError
from green_router.messages.ledger import ANSWERED, FAILED, LATE, Ledger
from green_router.processes import control
from green_router.processes.control import Control


def counted(**counts: int) -> dict[str, Any]:
    """The snapshot of a ledger."""
    ledger = Ledger()
    ledger.received = counts.get("received", 0)
    for name, index in (("answered", ANSWERED), ("failed", FAILED), ("late", LATE)):
        ledger.counts[index] = counts.get(name, 0)
    return ledger.snapshot(waiting=0, in_flight=ledger.unsettled)


def worker(slot: int, **changes: Any) -> dict[str, Any]:
    return {
        "slot": slot,
        "pid": 100 + slot,
        "state": "ready",
        "stats": counted(received=1, answered=1),
        "deaths": 0,
        "answers": True,
        "silent": 0.1,
    } | changes


def service(*workers: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """What a supervisor answers."""
    return {
        "endpoints": ["tcp://127.0.0.1:5555"],
        "dispatch": "front",
        "pid": 99,
        "state": "serving",
        "uptime": 4.5,
        "workers": [*workers],
        "sum": counted(received=1234, answered=1200, failed=30),
    } | changes


@pytest.fixture
def asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Result]]:
    """``asking(answer, *arguments)``: what the command says, where a supervisor answers that."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with ExitStack() as stack:
        pool = ThreadPool(1)
        stack.callback(pool.kill)

        def run(answer: Any, *arguments: str) -> Result:
            supervisor = Control(None, {"stats": lambda: answer})
            try:
                # In an OS thread, while this one's hub answers.
                done: Result = pool.apply(CliRunner().invoke, (main, ["stats", *arguments]))
            finally:
                supervisor.close()
            return done

        yield run


def lines(done: Result) -> list[list[str]]:
    assert done.exit_code == 0, done.output
    return [line.split() for line in done.output.splitlines()]


def test_the_service_its_workers_and_what_has_become_of_its_messages(
    asking: Callable[..., Result],
) -> None:
    shown = lines(asking(service(worker(1), worker(2, deaths=2))))
    assert shown[0] == [
        *["tcp://127.0.0.1:5555", "dispatch", "front,"],
        *["pid", "99,", "serving", "for", "4.5", "s"],
    ]
    assert ["sum", "99", "serving", "1,234", "4", "2"] in shown
    assert ["1", "101", "ready", "1", "0", "0", "turns"] in shown
    assert ["2", "102", "ready", "1", "0", "2", "turns"] in shown
    assert ["answered", "1,200"] in shown and ["failed", "30"] in shown
    assert not [line for line in shown if line[:1] == ["event"]]


@pytest.mark.parametrize(
    ("changes", "loop"),
    [
        ({"answers": False, "silent": 0.25}, ["blocked", "for", "250", "ms"]),
        ({"answers": False, "silent": 0.99999}, ["blocked", "for", "999", "ms"]),
        ({"answers": False, "silent": 61.0}, ["blocked", "for", "61", "s"]),
        ({"answers": False, "silent": 7200.0}, ["blocked", "for", "120.0", "min"]),
        ({"state": "leaving"}, ["turns"]),
        ({"state": "booting", "answers": False}, []),
    ],
)
def test_a_loop_that_does_not_turn_is_shown_as_such(
    asking: Callable[..., Result], changes: dict[str, Any], loop: list[str]
) -> None:
    [row] = [
        line for line in lines(asking(service(worker(7, **changes)))) if line[:2] == ["7", "107"]
    ]
    assert row[6:] == loop


def test_a_worker_that_is_none_just_now_has_no_pid(asking: Callable[..., Result]) -> None:
    answer = service(worker(1, pid=None, state="waiting"), endpoints=[], sum=counted())
    shown = lines(asking(answer))
    assert shown[0][0] == "-"
    assert ["1", "-", "waiting", "1", "0", "0"] in shown
    assert ["none", "yet"] in shown


def test_events_and_who_was_not_let_in_are_shown_where_there_were_any(
    asking: Callable[..., Result],
) -> None:
    total = counted(received=5, answered=5, late=3)
    total["auth_failures"] = {"unknown_key": 1500, "protocol": 0}
    shown = lines(asking(service(sum=total)))
    assert ["late", "3"] in shown
    assert ["unknown_key", "1,500"] in shown
    assert not [line for line in shown if line[:1] == ["protocol"]]


def test_json_is_the_answer_as_it_came(asking: Callable[..., Result]) -> None:
    answer = service(worker(1))
    done = asking(answer, "--json")
    assert json.loads(done.output) == json.loads(json.dumps(answer))


def test_a_proxy_shows_its_servers(asking: Callable[..., Result]) -> None:
    rows = [
        {"id": "a", "requests": 1000, "in_hand": 3, "window": 64, "leaving": False, "silent": 0.5},
        {"id": "b", "requests": 5, "in_hand": 0, "window": 64, "leaving": True, "silent": 9.0},
    ]
    answer = {
        "endpoints": ["tcp://127.0.0.1:1"],
        "backend": ["tcp://127.0.0.1:2"],
        "pid": 99,
        "state": "serving",
        "uptime": 1.0,
        "proxy": {"dispatch": "credit", "forwarded": 1005, "workers": rows},
    }
    shown = lines(asking(answer))
    assert shown[0][:6] == [
        *["clients", "tcp://127.0.0.1:1", "servers", "tcp://127.0.0.1:2", "dispatch", "credit,"]
    ]
    assert ["forwarded", "1,005"] in shown
    assert ["a", "1,000", "3", "64", "heard", "500", "ms", "ago"] in shown
    assert ["b", "5", "0", "64", "leaving"] in shown
    answer["proxy"] = {"dispatch": "native", "forwarded": 0, "workers": []}
    assert not [line for line in lines(asking(answer)) if "window" in line]


# -- whom it asks ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("running", "words"),
    [
        ([], "no service with workers is running, or its control socket is elsewhere"),
        (
            ["/run/1.sock", "/run/2.sock"],
            "several services are running, name one: /run/1.sock /run",
        ),
    ],
)
def test_without_a_name_there_must_be_one(
    monkeypatch: pytest.MonkeyPatch, running: list[str], words: str
) -> None:
    monkeypatch.setattr(control, "supervisors", lambda: running)
    with pytest.raises(GreenRouterError, match=words):
        stats._path(None)


def test_a_number_is_a_process_and_all_else_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "path_of", lambda pid: f"of {pid}")
    assert stats._path("17") == "of 17"
    for path in ("here.sock", "./17", "-17"):
        assert stats._path(path) == path


def test_one_that_does_not_answer_is_an_error_and_no_stack(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["stats", str(tmp_path / "nobody")])
    assert done.exit_code != 0
    assert "Traceback" not in done.output
