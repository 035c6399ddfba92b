"""``green-router demo``: a complete and plausible table, in a terminal and in none, and nothing left behind."""
from __future__ import annotations

import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import termios
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import COMMAND, LIMIT_SECONDS, CommandLine

from green_router.commands import demo, main
from green_router.commands.usage import Cost

ROWS = [
    "requests, each reply checked", "requests/s",
    "server adds to handler, p50", "server adds to handler, p99",
    "at work: CPU", "at work: wake-ups/s",
    "replies pending: CPU", "replies pending: wake-ups/s",
    "idle: CPU", "idle: wake-ups/s",
]

needs_proc = pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="this system has no /proc")


def figures(printed: str) -> dict[str, list[float]]:
    """Read the table: the figures of each row, one a server."""
    rows = {}
    for line in printed.splitlines():
        for name in ROWS:
            if line.strip().startswith(name):
                cells = re.split(r"\s{2,}", line.strip().removeprefix(name).strip())
                rows[name] = [float(cell.removesuffix(" ms").removesuffix(" %").replace(",", "")) for cell in cells]
    return rows


@needs_proc
def test_measures_all_servers(command_line: CommandLine) -> None:
    done = command_line.run("demo", "--seconds", "2", "--clients", "4")
    assert done.returncode == 0, done.stderr.decode()
    printed = done.stdout.decode()
    table = figures(printed)
    assert list(table) == ROWS
    assert {len(row) for row in table.values()} == {len(demo.CONTENDERS)}

    original, same_handler, handler_waits = range(3)
    per_second = table["requests/s"]
    # a client has one request under way, and none is faster than the handler
    assert all(0 < rate <= 4 / demo.SHORTEST for rate in per_second)
    assert all(low > 0 and low <= high for low, high in zip(*(table[row] for row in ROWS[2:4]), strict=True))
    assert all(0 < share <= 200 for share in table["at work: CPU"])
    assert table["replies pending: wake-ups/s"][original] > 300
    assert table["replies pending: wake-ups/s"][handler_waits] <= 10
    assert max(table["idle: wake-ups/s"][same_handler:]) <= 10
    assert max(map(len, printed.splitlines())) <= 80
    assert done.stderr.decode().splitlines()[:3] == [
        "starting 4 clients", "poll loop: starting", "poll loop: 4 clients at work"]


def test_in_a_terminal_there_is_a_bar(command_line: CommandLine) -> None:
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([*COMMAND, "demo", "--seconds", "1", "--clients", "2"], stdin=inside, stdout=inside,
                               stderr=inside, env=command_line.env | {"TERM": "xterm", "NO_COLOR": "1"})
    os.close(inside)
    seen = b""
    while True:
        try:
            came = os.read(terminal, 65536)
        except OSError:     # Linux's way to say that nobody has the terminal open any more
            break
        if not came:
            break
        seen += came
    os.close(terminal)
    assert process.wait(LIMIT_SECONDS) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "\u2501" in text
    assert "green_router, handler waits: idle" in text
    assert max(len(part) for part in re.split(r"[\r\n]+", text)) <= 80
    assert all(name in text for name in ROWS)


def children(pid: int) -> list[int]:
    """The processes that a process has started."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@needs_proc
@pytest.mark.parametrize(("number", "code"), [
    (signal.SIGINT, 1),
    (signal.SIGTERM, 128 + signal.SIGTERM),
    (signal.SIGHUP, 128 + signal.SIGHUP),
])
@pytest.mark.parametrize("step", ["poll loop: 3 clients at work", "green_router, same handler: replies pending"])
def test_a_signal_ends_all_of_it(command_line: CommandLine, number: signal.Signals, code: int, step: str) -> None:
    running = command_line.start("demo", "--seconds", "3", "--clients", "3")
    running.err.until(step)
    started = children(running.process.pid)
    assert len(started) == 2 * 4     # each with its watcher
    running.process.send_signal(number)
    assert running.ends() == code
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not any("Traceback" in line for line in running.err.rest())
    assert running.out.rest() == []


@needs_proc
def test_a_server_that_ends_is_an_error(command_line: CommandLine) -> None:
    running = command_line.start("demo", "--seconds", "2", "--clients", "2")
    running.err.until("poll loop: 2 clients at work")
    [server] = [pid for pid in children(running.process.pid)
                if "original" in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]
    os.kill(server, signal.SIGKILL)
    assert running.ends() == 1
    assert running.err.rest()[-1] == "Error: poll loop was killed by SIGKILL (as where memory runs out)"


def test_what_was_not_measured_is_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    unknown = Cost(1.0, None, None)
    measured = demo.Measured(1.0, [0.001, 0.002], unknown, unknown, unknown)
    demo.report(demo.CONTENDERS, [measured] * 3)
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert sum(re.fullmatch(r".*(CPU|wake-ups/s)\s+-\s+-\s+-", line) is not None for line in lines) == 6
    assert lines[-1] == '"-"                  this system has no /proc, so CPU and wake-ups were not measured'


@pytest.mark.parametrize(("arguments", "words"), [
    (["--seconds", "0"], "0 must be a number of seconds above 0"),
    (["--seconds", "nan"], "nan must be a number of seconds above 0"),
    (["--clients", "0"], "0 is not in the range"),
])
def test_refuses_what_is_wrong(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["demo", *arguments])
    assert done.exit_code == 2
    assert words in done.output
