"""``green-router demo``: a complete and honest table, a sentence that follows from it, and nothing
left behind."""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import textwrap
from pathlib import Path

import pytest
from click.testing import CliRunner
from command_line import COMMAND, LIMIT_SECONDS, CommandLine

from green_router.commands import main
from green_router.commands.demo.measure import CONTENDERS, PROGRAMS, Plan
from green_router.commands.demo.report import rows

pytestmark = pytest.mark.measures

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system has no /proc"
)


def figures(printed: str, plan: Plan) -> dict[str, list[float]]:
    """Read the table: the figures of each row, one a server."""
    found = {}
    for line in printed.splitlines():
        for name in [f"{row.load}: {row.name}" for row in rows(plan)]:
            if line.strip().startswith(f"{name}  "):
                cells = re.split(r"\s{2,}", line.strip().removeprefix(name).strip())
                found[name] = [float(re.sub(r" ms| us| %|,", "", cell)) for cell in cells]
    return found


# -- the whole of it -------------------------------------------------------------------------------


@needs_proc
def test_measures_all_servers(command_line: CommandLine) -> None:
    done = command_line.run("demo", "--seconds", "2", "--clients", "8")
    assert done.returncode == 0, done.stderr.decode()
    printed = done.stdout.decode()
    plan = Plan(2, 8)
    table = figures(printed, plan)
    assert list(table) == [f"{row.load}: {row.name}" for row in rows(plan)]
    assert {len(row) for row in table.values()} == {len(CONTENDERS)}
    assert [name for name in table if name.startswith(("5 clients", "8 clients"))], "few and many"
    for name, row in table.items():
        if name.endswith("late p50"):
            assert all(
                low <= high
                for low, high in zip(row, table[name.replace("p50", "p99")], strict=True)
            )
    assert all(0 < share <= 300 for share in table["1,000 pending: CPU"])
    assert not any(table["one reads nothing: its replies lost"][1:]), "green_router parks them"
    assert max(map(len, printed.splitlines())) <= 80
    assert "Beside the loop, in this run: the same handler is better in" in printed
    assert "green-router serve app.py:handle_request --until-ready" in printed.splitlines()[-2], (
        "what to type next"
    )
    assert done.stderr.decode().splitlines()[:4] == [
        "starting",
        "all servers: idle",
        "the loop: 5 clients",
        "the loop: 8 clients",
    ]


def test_in_a_terminal_there_is_a_bar(command_line: CommandLine) -> None:
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "demo", "--seconds", "1", "--clients", "2"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=command_line.env | {"TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(inside)
    seen = b""
    while True:
        try:
            came = os.read(terminal, 65536)
        except OSError:  # Linux's way to say that nobody has the terminal open any more
            break
        if not came:
            break
        seen += came
    os.close(terminal)
    assert process.wait(LIMIT_SECONDS) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert "\u2501" in text
    assert "the handler waits: 1,000 requests pending" in text
    assert max(len(part) for part in re.split(r"[\r\n]+", text)) <= 80
    assert all(f"{row.load}: {row.name}" in text for row in rows(Plan(1, 2)))


# -- what ends it ----------------------------------------------------------------------------------


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
@pytest.mark.parametrize(
    ("number", "code", "step"),
    [
        (signal.SIGINT, 1, "starting"),
        (signal.SIGINT, 1, "the same handler: 1,000 requests pending"),
        (signal.SIGTERM, 128 + signal.SIGTERM, "the loop: 3 clients"),
        (signal.SIGHUP, 128 + signal.SIGHUP, "all servers: idle"),
    ],
)
def test_a_signal_ends_all_of_it(
    command_line: CommandLine, number: signal.Signals, code: int, step: str
) -> None:
    running = command_line.start("demo", "--seconds", "3", "--clients", "3")
    running.err.until(step)
    started = children(running.process.pid)
    running.process.send_signal(number)
    assert running.ends() == code
    assert not [pid for pid in started if Path(f"/proc/{pid}").exists()]
    assert not any("Traceback" in line for line in running.err.rest())
    assert running.out.rest() == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_signal_that_was_ignored_at_the_beginning_stays_ignored(
    command_line: CommandLine, number: signal.Signals
) -> None:
    """SIGINT: a job in the background of a script; SIGHUP: nohup(1)."""
    before = signal.signal(number, signal.SIG_IGN)
    try:
        running = command_line.start("demo", "--seconds", "1", "--clients", "2")
    finally:
        signal.signal(number, before)
    running.err.until("the loop: 2 clients")
    running.process.send_signal(number)
    assert running.ends() == 0


@needs_proc
@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("loop.py", "the loop: the process was killed by SIGKILL (as where memory runs out)"),
        ("clients.py", "the clients: the process was killed by SIGKILL (as where memory runs out)"),
    ],
)
def test_a_process_that_ends_is_an_error(
    command_line: CommandLine, program: str, words: str
) -> None:
    running = command_line.start("demo", "--seconds", "2", "--clients", "2")
    running.err.until("the loop: 2 clients")
    pid = min(
        pid
        for pid in children(running.process.pid)
        if str(PROGRAMS / program) in Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    )
    os.kill(pid, signal.SIGKILL)
    assert running.ends() == 1
    assert running.err.rest()[-1] == f"Error: {words}"
    assert running.out.rest() == []


# -- the device ------------------------------------------------------------------------------------


DEVICE = """
    import time
    nap = time.sleep    # of the system: gevent's hub gets no turn meanwhile
    {first}
    from device import Device
    device, came = Device(), []
    jobs = [device.start(b"%d 3 text %d" % (takes, takes)) for takes in (300000, 100000, 200000)]
    assert not any(job.done() for job in jobs)
    for job in jobs:
        job.add_done_callback(came.append)
    while len(came) < 3:
        nap(0.01)
    now = time.monotonic()
    assert came == [jobs[1], jobs[2], jobs[0]], "in the order in which they are due"
    assert all(job.done() and float(job.result().split(b" ", 1)[0]) <= now for job in jobs)
    assert came[0].result().endswith(b" 000001 txet\\0\\0\\0")
    at_once = device.start(b"0 0 text")
    at_once.add_done_callback(came.append)
    assert came[3] is at_once and at_once.result().endswith(b" txet")
    """


@pytest.mark.parametrize(
    "first", ["pass", "from gevent import monkey; monkey.patch_all()"], ids=["plain", "patched"]
)
def test_the_device_is_a_thread_of_the_system(first: str) -> None:
    program = textwrap.dedent(DEVICE).format(first=first)
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=PROGRAMS,
        capture_output=True,
        timeout=LIMIT_SECONDS,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_one_line_more_is_one_line_more() -> None:
    before, after = (
        (PROGRAMS / name).read_text().partition("from __future__")[2].splitlines()
        for name in ("app.py", "app_ready.py")
    )
    lines = [
        line
        for line in difflib.unified_diff(before, after, n=0, lineterm="")
        if re.match(r"[+-][^+-]", line)
    ]
    assert [line.strip("+ ") for line in lines if line != "+"] == [
        "from green_router import until_ready",
        "@until_ready",
        "jobs[request].add_done_callback(lambda _: handle_request.ready(request))",
    ]


# -- options ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--seconds", "0"], "0 must be a number of seconds above 0"),
        (["--seconds", "nan"], "nan must be a number of seconds above 0"),
        (["--clients", "0"], "0 is not in the range"),
    ],
)
def test_refuses_what_is_wrong(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["demo", *arguments])
    assert done.exit_code == 2
    assert words in done.output


def test_says_what_it_does() -> None:
    done = CliRunner().invoke(main, ["demo", "--help"])
    assert done.exit_code == 0
    assert "[default: 15.0]" in done.output and "[default: 100; 1<=x<=500]" in done.output
