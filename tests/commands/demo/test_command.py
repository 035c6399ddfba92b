"""``green-router demo``: a complete and honest table, a sentence that follows from it, and nothing
left behind."""

from __future__ import annotations

import difflib
import fcntl
import os
import pty
import re
import signal
import socket
import struct
import subprocess
import sys
import termios
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from command_line import COMMAND, LIMIT_SECONDS, CommandLine

from green_router.commands import main
from green_router.commands.demo.conclusion import conclusion
from green_router.commands.demo.machine import Machine
from green_router.commands.demo.measure import (
    CONTENDERS,
    PROGRAMS,
    Contender,
    Load,
    Measured,
    Plan,
    measure_all,
    percentile,
    started,
)
from green_router.commands.demo.report import doubts, report, rows
from green_router.commands.measured.cost import Cost
from green_router.commands.terminal import progress

pytestmark = pytest.mark.measures

PLAN = Plan(15, 100)
SHORT = Plan(1, 3)

LOOP = CONTENDERS[0]

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


# -- honesty ---------------------------------------------------------------------------------------


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


# -- the table and the sentence --------------------------------------------------------------------


def measured(late: float, cpu: float | None, lost: int = 0, replies: int = 100) -> Measured:
    """Alike under each load."""
    cost = Cost(1.0, cpu, None if cpu is None else 0)
    load = Load([late] * replies, [0.001], cost)
    return Measured(load, load, load, lost, load, cost)


def said(*results: Measured) -> str:
    return conclusion(PLAN, CONTENDERS[: len(results)], results)


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
    assert "is better in 0 of 10 figures and worse in none" in said(*[measured(0.001, None)] * 2)


def test_the_sentence_follows_the_figures() -> None:
    loop = measured(0.001, 0.1, lost=5)
    assert said(loop, loop) == (
        "Beside the loop, in this run: the same handler is better in 0 of 15 figures and worse "
        "in none."
    )
    assert said(loop, measured(0.0002, 0.01)) == (
        "Beside the loop, in this run: the same handler is better in 13 of 15 figures and worse "
        "in none; the widest difference is 5 clients: CPU a reply, 100 us (the same handler) "
        "instead of 1000 us."
    )
    assert said(loop, measured(0.020, 0.1, lost=5)) == (
        "Beside the loop, in this run: the same handler is better in 0 of 15 figures and worse in "
        "8 (5 clients: late p50, late p99; 100 clients: late p50, late p99; 1,000 pending: late "
        "p50, late p99; one reads nothing: late p50, late p99); the widest difference is 5 "
        "clients: late p50, 20.0 ms (the same handler) instead of 1.0 ms."
    )
    assert said(loop, measured(0.001, 0.1, lost=9)) == (
        "Beside the loop, in this run: the same handler is better in 0 of 15 figures and worse in "
        "1 (one reads nothing: its replies lost)."
    )


def test_a_difference_within_the_noise_is_none() -> None:
    assert "better in 0 of 15 figures and worse in none" in said(
        measured(0.001, 0.1), measured(0.00105, 0.104)
    )


def test_the_cost_of_a_reply_does_not_count_on_the_number_of_replies() -> None:
    assert "better in 0 of 15 figures and worse in none" in said(
        measured(0.001, 0.1, replies=100),
        replace(measured(0.001, 0.1), few=measured(0.001, 0.05, replies=50).few),
    )


def test_percentiles() -> None:
    assert [percentile([1, 2, 3, 4], share) for share in (0, 0.5, 0.99, 1)] == [1, 3, 4, 4]


# -- a busy machine --------------------------------------------------------------------------------


@contextmanager
def quiet() -> Iterator[Machine]:
    with progress(1) as shown:
        yield Machine(shown)


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


@needs_proc
def test_other_programs_are_noticed() -> None:
    """A child is another program until it has ended: then what it has used was this one's."""

    def seconds() -> float:
        return (machine.taken() or 0) * (time.monotonic() - begun) * (os.cpu_count() or 1)

    with quiet() as machine:
        begun = time.monotonic()
        program = "import time\nwhile time.process_time() < 0.5: pass\nprint('done', flush=True)\ntime.sleep(1000)"
        with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as busy:
            assert busy.stdout and busy.stdout.readline() == b"done\n"
            machine.wait(0.05)
            before = seconds()
            busy.kill()
        assert before - seconds() > 0.2
    assert machine.late
    assert min(machine.late) > -0.001


def test_few_replies_make_a_percentile_doubtful() -> None:
    with quiet() as machine:
        sentences = doubts(PLAN, machine, [measured(0.001, 0.1, replies=20)])
    assert sentences[-1].startswith(
        "With fewer than 50 replies to 5 clients, p99 is about the worst of them"
    )


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
