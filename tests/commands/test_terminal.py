"""The table and the steps, where there is no terminal. With one, they are seen in
demo/test_command.py."""

from __future__ import annotations

import pytest

from green_router.commands import terminal as screen


def test_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    screen.table(
        ["", "original\nloop", "green_router"],
        [["requests", "1,704", "1,690"], ["", "", ""], ["wake-ups/s", "2,254.8", "-"]],
    )
    printed, errors = capsys.readouterr()
    lines = [line.rstrip() for line in printed.splitlines() if "\u2500" not in line]
    assert [line.split() for line in lines if line] == [
        ["original"],
        ["loop", "green_router"],
        ["requests", "1,704", "1,690"],
        ["wake-ups/s", "2,254.8", "-"],
    ]
    assert (
        len({len(line) for line in lines if line[-1:].isdigit() or line.endswith(("-", "router"))})
        == 1
    )
    assert not errors


def test_steps_are_lines(capsys: pytest.CaptureFixture[str]) -> None:
    with screen.progress(2) as shown:
        shown.say("first")
        shown.advance(1)
        shown.say("second")
        shown.advance(1)
    assert capsys.readouterr() == ("", "first\nsecond\n")
