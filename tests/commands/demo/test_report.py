"""The demo's table: what was not measured is not shown, and what is doubtful is called so."""

from __future__ import annotations

import re

import pytest
from demo_figures import PLAN, measured, quiet

from green_router.commands.demo.measure import CONTENDERS
from green_router.commands.demo.report import doubts, report

pytestmark = pytest.mark.measures


def test_what_was_not_measured_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    report(PLAN, CONTENDERS, [measured(0.001, None)] * len(CONTENDERS))
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    none = r"\s+-" * len(CONTENDERS)
    assert (
        sum(
            re.fullmatch(rf".*(CPU|CPU a reply|wake-ups/s){none}", line) is not None
            for line in lines
        )
        == 5
    )
    assert (
        lines[-1] == '"-"           this system has no /proc, so CPU and wake-ups were not measured'
    )


def test_late_timers_make_the_figures_doubtful() -> None:
    with quiet() as machine:
        machine.late = [0.0001] * 90 + [0.0042] * 10
    assert (
        "one in twenty was late by 4.2 ms or more"
        in doubts(PLAN, machine, [measured(0.001, 0.1)])[0]
    )
    assert doubts(PLAN, machine, [measured(0.001, 0.1)])[0].startswith(
        "These figures are doubtful, the machine is busy: "
    )


def test_few_replies_make_a_percentile_doubtful() -> None:
    with quiet() as machine:
        sentences = doubts(PLAN, machine, [measured(0.001, 0.1, replies=20)])
    assert sentences[-1].startswith(
        "With fewer than 50 replies to 5 clients, p99 is about the worst of them"
    )
