"""What the demo measures: what is late is late, what is wrong is an error, and so is a process that
ends."""

from __future__ import annotations

import socket
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import click
import pytest

from green_router.commands.demo.machine import Machine
from green_router.commands.demo.measure import (
    CONTENDERS,
    PROGRAMS,
    Contender,
    Measured,
    Plan,
    measure_all,
    percentile,
    started,
)
from green_router.commands.terminal import progress

pytestmark = pytest.mark.measures

SHORT = Plan(1, 3)

LOOP = CONTENDERS[0]


def test_clients_that_have_ended_are_an_error_when_they_are_told_something() -> None:
    with started("the clients", sys.executable, "-c", "raise SystemExit(3)") as clients:
        clients.process.wait()
        with pytest.raises(
            click.ClickException, match="the clients: the process ended with exit code 3"
        ):
            clients.tell("connect", "tcp://127.0.0.1:1")


def test_a_server_that_has_no_port_is_an_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        loop = replace(
            LOOP, command=[*LOOP.command[:-1], f"tcp://127.0.0.1:{taken.getsockname()[1]}"]
        )
        with pytest.raises(
            click.ClickException, match="the loop: the process ended with exit code 1"
        ):
            measure(loop)


def measure(*contenders: Contender) -> list[Measured]:
    with progress(SHORT.seconds) as shown:
        return measure_all(SHORT, Machine(shown), contenders)


def contender(directory: Path, app: str) -> Contender:
    """Another handler, on the demo's device."""
    path = directory / "app_of_the_test.py"
    path.write_text(f"import sys\nsys.path.insert(0, {str(PROGRAMS)!r})\n{textwrap.dedent(app)}")
    *command, _ = CONTENDERS[-1].command
    return Contender("the test's", "the\ntest's", [*command, f"{path}:handle_request"])


def test_what_is_late_is_reported_as_late(tmp_path: Path) -> None:
    (late,) = measure(
        contender(
            tmp_path,
            """
        import gevent
        from app_waits import handle_request as in_time

        def handle_request(request):
            job = in_time(request)
            while not job.done():
                gevent.sleep(0.01)
            if not request.data.startswith(b"0 "):
                gevent.sleep(0.1)
            return job
        """,
        )
    )
    assert all(load.late[0] >= 0.1 for load in (late.few, late.many, late.others, late.pending))


def test_what_is_begun_late_is_reported_as_begun_late(tmp_path: Path) -> None:
    (late,) = measure(
        contender(
            tmp_path,
            """
        import gevent
        from app_waits import handle_request as in_time

        def handle_request(request):
            gevent.sleep(0.1)
            return in_time(request)
        """,
        )
    )
    assert late.pending.begun[0] >= 0.1


def test_a_reply_that_is_wrong_is_an_error(tmp_path: Path) -> None:
    wrong = contender(
        tmp_path,
        """
        import gevent
        from app_waits import handle_request as right

        def handle_request(request):
            job = right(request)
            while not job.done():
                gevent.sleep(0.01)
            return job.result().replace(b"tneilc", b"client")
        """,
    )
    with pytest.raises(click.ClickException, match=r"[1-9] replies were wrong, 0 did not come"):
        measure(wrong)


def test_the_loop_drops_what_is_not_read(tmp_path: Path) -> None:
    """And the count is right: each reply is there or it is not, whatever it shares a queue with."""
    loop, green = measure(LOOP, CONTENDERS[-1])
    assert 0 <= loop.lost < 2500
    assert green.lost == 0


def test_percentiles() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0, 0.5, 0.99, 1)] == [1, 3, 4, 4]
