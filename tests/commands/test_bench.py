"""``green-router bench``: all strategies serve the checked load, and what goes wrong is found and said.

Rules of this file
  1. The strategies are run as they are, in short rounds; no figure is compared with another, since the machine is not
     ours alone.
  2. Servers that reply wrongly are programs that a test writes; the load must find each of their faults.
"""
from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from command_line import COMMAND, LIMIT_SECONDS, CommandLine

from green_router.commands import bench, bench_load, bench_strategies, main
from green_router.commands.bench_report import Outcome, Report, Round, percentiles
from green_router.commands.bench_strategies import ANY_PORT, DIRECTORY, CannotRun, Strategy, found, started
from green_router.commands.children import cpu_seconds, family
from green_router.commands.screen import progress
from green_router.testing import PATIENCE

STRATEGIES = ["short_poll", "lock", "receive_and_send_threads", "inproc_wake", "two_sockets", "raw_tcp",
              "proxy_threads", "asyncio", "green_naive", "green_router"]

QUICK = ("--seconds", "0.2", "--rounds", "1", "--clients", "5", "--in-flight", "4")

has_proc = Path("/proc/self/task").exists()
needs_proc = pytest.mark.skipif(not has_proc, reason="this system has no /proc")


# -- the strategies ----------------------------------------------------------------------------------------------------


def test_the_ten_strategies_in_their_order() -> None:
    assert list(found()) == STRATEGIES
    assert [name for name, strategy in found().items() if strategy.own_client] == ["two_sockets", "raw_tcp"]


@pytest.mark.parametrize("name", STRATEGIES)
def test_each_says_at_its_head_what_it_teaches(name: str) -> None:
    strategy = found()[name]
    source = strategy.program.read_text(encoding="utf-8")
    assert re.match(rf'"""{re.escape(strategy.title)}\n\n', source)
    assert "\nWhat it teaches\n" in source
    # a line of the legend: the longest name, a gap, the title
    assert len(strategy.title) <= 80 - 2 - max(map(len, STRATEGIES))


def test_the_lock_is_documentation_only() -> None:
    program = found()["lock"].program
    done = subprocess.run([sys.executable, str(program)], capture_output=True, timeout=LIMIT_SECONDS, text=True,
                          check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"    $ python examples/strategies/02_lock.py\n    {done.stderr}" in program.read_text(encoding="utf-8")


# -- the whole command -------------------------------------------------------------------------------------------------


def test_every_strategy_serves_and_every_reply_is_right(command_line: CommandLine) -> None:
    done = command_line.run("bench", *QUICK, "--size", "20000", "--workers", "2", "--json", "bench.json")
    printed = done.stdout.decode()
    assert done.returncode == 0, f"{done.stderr.decode()}{printed}"
    assert max(map(len, printed.splitlines())) <= 80
    assert "lock                      not run: documentation only" in printed
    assert done.stderr.decode().splitlines() == [f"1/1 {name}" for name in [*STRATEGIES, "green_router, 2 workers"]]

    known = json.loads((command_line.directory / "bench.json").read_text())
    assert set(known) == {"versions", "machine", "load", "base", "strategies"}
    assert set(known["versions"]) == {"green_router", "python", "gevent", "pyzmq", "libzmq"}
    assert known["load"] == {"clients": 5, "in_flight": 4, "size_bytes": 20000, "seconds": 0.2, "rounds": 1,
                             "sleep_us": 1000}
    assert known["base"] == "short_poll"
    assert list(known["strategies"]) == [*STRATEGIES, "green_router, 2 workers"]
    lock = known["strategies"].pop("lock")
    assert lock["not_run"].startswith("documentation only")
    assert (lock["failed"], lock["rounds"]) == (None, [])
    for name, strategy in known["strategies"].items():
        assert (strategy["not_run"], strategy["failed"]) == (None, None), name
        check_figures(strategy)
        assert re.search(rf"^ ?{re.escape(name)} +[\d,]+ ", printed, re.M), printed


def check_figures(strategy: dict[str, Any]) -> None:
    """Every figure is there, and is possible with 20 requests in flight that take a millisecond each."""
    [measured] = strategy["rounds"]
    assert set(measured) == {"seconds", "replies", "requests_per_second", "latency_us", "cpu_us_per_request",
                             "load_cpu_us_per_request"}
    assert measured["replies"] >= max(20, measured["requests_per_second"] * measured["seconds"])
    # a sleep may end a little early, by another clock than its own
    assert measured["requests_per_second"] <= 25_000
    assert measured["latency_us"]["p50"] >= 800
    assert list(measured["latency_us"]) == ["p50", "p90", "p99", "p99_9", "max"]
    assert list(measured["latency_us"].values()) == sorted(measured["latency_us"].values())
    assert (measured["cpu_us_per_request"] > 0) if has_proc else (measured["cpu_us_per_request"] is None)
    assert measured["load_cpu_us_per_request"] > 0
    assert set(strategy["median"]) == set(measured) - {"seconds", "replies"}
    assert set(strategy["ratio"]) == {"requests_per_second", "cpu_us_per_request"}


def test_the_strategies_take_turns(command_line: CommandLine) -> None:
    done = command_line.run("bench", "--seconds", "0.1", "--rounds", "3", "--strategies", "green_router,short_poll",
                            "--sleep-us", "0", "--json", "bench.json")
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().splitlines() == [
        f"{turn}/3 {name}" for turn in (1, 2, 3) for name in ("green_router", "short_poll")]
    strategies = json.loads((command_line.directory / "bench.json").read_text())["strategies"]
    for strategy in strategies.values():
        rates = [measured["requests_per_second"] for measured in strategy["rounds"]]
        assert len(rates) == 3
        assert strategy["median"]["requests_per_second"] == sorted(rates)[1]
    assert strategies["short_poll"]["ratio"]["requests_per_second"] == 1


def test_in_a_terminal_there_is_a_bar(command_line: CommandLine) -> None:
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen([*COMMAND, "bench", *QUICK, "--strategies", "receive_and_send_threads"], stdin=inside,
                               stdout=inside, stderr=inside, env=command_line.env | {"TERM": "xterm", "NO_COLOR": "1"})
    os.close(inside)
    seen = b""
    with suppress(OSError):     # Linux's way to say that nobody has the terminal open any more
        while came := os.read(terminal, 65536):
            seen += came
    os.close(terminal)
    assert process.wait(LIMIT_SECONDS) == 0
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search("1/1 receive_and_send_threads +\u2501+", text)
    assert max(len(part) for part in re.split(r"[\r\n]+", text)) <= 80


def test_nothing_that_can_be_run_is_a_failure(command_line: CommandLine) -> None:
    done = command_line.run("bench", *QUICK, "--strategies", "lock")
    assert done.returncode == 1
    assert " ".join(done.stdout.decode().split()) == (
        "lock not run: documentation only: a ROUTER that threads share behind a mutex stops answering, or aborts the "
        "process")


@needs_proc
@pytest.mark.parametrize(("number", "code"), [
    (signal.SIGINT, 1),
    (signal.SIGTERM, 128 + signal.SIGTERM),
    (signal.SIGHUP, 128 + signal.SIGHUP),
])
def test_a_signal_ends_all_of_it(command_line: CommandLine, number: signal.Signals, code: int) -> None:
    running = command_line.start("bench", "--seconds", "60", "--strategies", "short_poll,green_router")
    running.err.until("1/3 short_poll")
    wait_for(lambda: len(descendants(running.process.pid)) == 2)
    below = descendants(running.process.pid)
    running.process.send_signal(number)
    assert running.ends() == code
    wait_for(lambda: not any(map(alive, below)))
    assert "Traceback" not in "\n".join(running.err.rest())
    assert running.out.rest() == []


def alive(pid: int) -> bool:
    """Whether a process runs. Nobody may wait for one whose parent has ended; then it is a zombie for ever."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what: Callable[[], bool]) -> None:
    """Look again and again until something is so: that a process is killed or started, nobody is told."""
    limit = time.monotonic() + LIMIT_SECONDS
    while not what():
        assert time.monotonic() < limit


def descendants(pid: int) -> list[int]:
    """The load processes and the server."""
    return family(pid)[1:]


@pytest.mark.parametrize(("arguments", "words"), [
    (["--clients", "0"], "0 is not in the range"),
    (["--in-flight", "0"], "0 is not in the range"),
    (["--size", "15"], "15 is not in the range 16<="),
    (["--seconds", "nan"], "nan must be a number of seconds above 0"),
    (["--rounds", "0"], "0 is not in the range"),
    (["--sleep-us", "-1"], "-1 is not in the range"),
    (["--workers", "0"], "0 is not in the range"),
    (["--strategies", "green_rooter"], "there is no strategy 'green_rooter'; did you mean green_router?"),
    (["--strategies", ""], "there is no strategy ''; there are short_poll, lock,"),
    (["--json", "nowhere/bench.json"], "'nowhere/bench.json' cannot be written"),
    (["--json", "."], "is a directory"),
])
def test_refuses_what_is_wrong(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


def test_the_picture_needs_matplotlib(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    done = CliRunner().invoke(main, ["bench", "--plot", str(tmp_path / "bench.png")])
    assert done.exit_code == 2
    assert "--plot needs matplotlib, which is not installed: python -m pip install 'green-router[bench]'" in done.output


# -- faults that the load must find ------------------------------------------------------------------------------------

FAULTY = """\
import sys
import time
import zmq

router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
print("serving on", router.last_endpoint.decode(), flush=True)
before = None
late = float("inf")
while True:
    client_id, _, data = router.recv_multipart()
    late = min(late, time.monotonic() + 0.5)
    {fault}
    router.send_multipart([client_id, b"", data])
"""

def faulty(directory: Path, fault: str) -> Strategy:
    """A strategy that runs this code before each reply."""
    program = directory / "faulty.py"
    program.write_text(FAULTY.format(fault=fault))
    return Strategy("faulty", "It lies.", program, (sys.executable, str(program), ANY_PORT))


@pytest.mark.parametrize(("code", "words"), [
    ("data = data[:-1] + bytes([data[-1] ^ 1])", r"replies: \d+ wrong"),
    ("data = data[:-1]", r"replies: \d+ wrong"),
    ("data = b''", r"replies: \d+ wrong, \d+ lost"),
    ("data = data[::-1]", r"replies: \d+ wrong, \d+ lost"),
    ("data, before = before or data, data   # the request before this one: mostly another client's",
     r"replies: \d+ wrong, \d+ lost(, \d+ unasked)?"),
    ("data = before = before or data        # always the same", r"replies: \d+ wrong, \d+ lost, \d+ unasked"),
    ("router.send_multipart([client_id, b'', data])", r"replies: \d+ unasked"),
    ("continue", r"replies: \d+ lost"),
    ("router.send_multipart([client_id, b'', b'', data]); continue", r"replies: \d+ wrong, \d+ lost"),
    ("router.send_multipart([client_id, data]); continue", r"replies: \d+ wrong, \d+ lost"),
    ("router.send_multipart([client_id, b'x', data]); continue", r"replies: \d+ wrong, \d+ lost"),
    ("sys.exit('no more')", "it ended; no more"),
    # after the warm-up
    ("if time.monotonic() > late: data = b''", r"replies: \d+ wrong, \d+ lost"),
    ("if time.monotonic() > late: router.send_multipart([client_id, b'', data])", r"replies: \d+ unasked"),
    ("if time.monotonic() > late: continue", r"replies: \d+ lost"),
    ("if time.monotonic() > late: sys.exit('no more')", "it ended; no more"),
])
def test_finds_what_is_wrong(tmp_path: Path, code: str, words: str) -> None:
    strategy = faulty(tmp_path, code)
    # where nothing is lost, a machine that stands still for a while must not make it so
    patience = PATIENCE if "lost" in words or "ended" in words else 20 * PATIENCE
    with load(patience=patience) as clients, progress(1) as shown, pytest.raises(bench.Failed, match=f"^{words}$"):
        bench.measure(strategy, clients, 0.5, 0.0, shown)


@contextmanager
def load(clients: int = 10, patience: float = bench.PATIENCE) -> Iterator[bench.Load]:
    with ExitStack() as stack:
        yield bench.Load(stack, clients, in_flight=4, size_bytes=64, seconds=0.5, patience=patience)


def test_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("raise SystemExit(3)")
    strategies = [faulty(tmp_path, "data = b''"),
                  Strategy("silent", "It is silent.", silent, (sys.executable, str(silent))), found()["green_router"]]
    outcomes = {strategy.name: Outcome(strategy.title) for strategy in strategies}
    with load(patience=PATIENCE) as clients, progress(1) as shown:
        bench.compare(strategies, outcomes, clients, 2, 0.2, 0.0, shown)
    assert outcomes["faulty"].failed == "replies: 40 wrong, 40 lost"
    assert outcomes["silent"].not_run == "it printed nothing, and its exit code is 3"
    assert len(outcomes["green_router"].rounds) == 2
    assert capsys.readouterr().err.splitlines() == ["1/2 faulty", "1/2 silent", "1/2 green_router", "2/2 green_router"]


def test_a_program_that_cannot_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("import no_such_module")
    broken = Strategy("broken", "", program, (sys.executable, str(program), ANY_PORT))
    with pytest.raises(CannotRun, match=r"^ModuleNotFoundError: No module named 'no_such_module'$"), started(broken, 0):
        pass


@needs_proc
@pytest.mark.parametrize("action", ["SIG_DFL", "SIG_IGN"])
@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_program_has_started_ends_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str,
                                                 own_session: bool) -> None:
    monkeypatch.setattr(bench_strategies, "STOPPING", 0.2)
    program = tmp_path / "parent.py"
    program.write_text(
        "import signal, subprocess, sys\n"
        f"signal.signal(signal.SIGTERM, signal.{action})\n"
        "child = [sys.executable, '-c', 'import time; time.sleep(1000)']\n"
        f"subprocess.Popen(child, start_new_session={own_session})\n"
        "print('serving on nothing', flush=True)\n"
        "signal.sigwait([signal.SIGUSR1])\n")
    with started(Strategy("parent", "", program, (sys.executable, str(program))), 0) as running:
        below = descendants(running.process.pid)
    assert len(below) == 1
    wait_for(lambda: not any(map(alive, below)))


@needs_proc
def test_cpu_time_is_that_of_all_processes(tmp_path: Path) -> None:
    program = tmp_path / "parent.py"
    program.write_text(
        "import subprocess, sys\n"
        "work = 'import time\\nwhile time.process_time() < 0.5: pass\\nprint(flush=True)\\ntime.sleep(1000)'\n"
        "with subprocess.Popen([sys.executable, '-c', work], stdout=subprocess.PIPE) as child:\n"
        "    child.stdout.readline()\n"
        "    print('serving on nothing', flush=True)\n")
    parent = Strategy("parent", "", program, (sys.executable, str(program)))
    with started(parent, 0) as running:
        used = cpu_seconds(running.process)
        below = descendants(running.process.pid)
    assert used is not None
    assert 0.5 <= used < 1
    assert len(below) == 1
    wait_for(lambda: not alive(below[0]))


def test_many_clients_in_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    with load(clients=500) as clients, progress(1) as shown:
        assert len(clients._processes) == 3
        measured = bench.measure(found()["green_router"], clients, 0.2, 0.0, shown)
    assert measured.replies >= 2000


# -- figures -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("latencies", "expected"), [
    ([(7, 1)], [7, 7, 7, 7, 7]),
    ([(value, 1) for value in range(1, 1001)], [500, 900, 990, 999, 1000]),
    ([(30, 2), (10, 4), (20, 2), (10, 2)], [10, 30, 30, 30, 30]),
])
def test_percentiles(latencies: list[tuple[int, int]], expected: list[int]) -> None:
    assert list(percentiles(latencies).values()) == expected


def test_long_latencies_keep_three_digits() -> None:
    tally = bench_load.Tally()
    for microseconds in (0, 999, 1004, 1009, 123_456, 123_999, 9_876_543):
        tally.latencies[microseconds] += 1
    assert tally.result()["latencies"] == [(0, 1), (999, 1), (1000, 2), (123_000, 2), (9_870_000, 1)]


LOAD = {"clients": 1, "in_flight": 1, "size_bytes": 64, "seconds": 1.0, "rounds": 2, "sleep_us": 0}


def measured(rate: float, cpu: float | None) -> Round:
    return Round(1.0, round(rate), rate, dict(zip(("p50", "p90", "p99", "p99_9", "max"), (100, 200, 300, 400, 500),
                                                  strict=True)), cpu, 2.5)


def outcomes(cpu: float | None) -> dict[str, Outcome]:
    return {"asyncio": Outcome("Slow.", [measured(1000, cpu), measured(3000, cpu)]),
            "lock": Outcome("", not_run="it must not"),
            "green_naive": Outcome("", [measured(1, cpu)], failed="replies: 1 lost"),
            "green_router": Outcome("Quick.", [measured(8000, cpu), measured(8000, cpu)])}


def test_where_the_system_does_not_say_there_is_no_figure(capsys: pytest.CaptureFixture[str]) -> None:
    report = Report(LOAD, outcomes(None))
    report.show()
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split() for line in lines if line.strip().startswith(("asyncio", "green", "lock"))]
    assert rows == [
        ["asyncio", "2,000", "1.00", "0.10", "0.30", "-", "-"],
        ["green_router", "8,000", "4.00", "0.10", "0.30", "-", "-"],
        ["asyncio", "Slow."],
        ["green_router", "Quick."],
        ["green_naive", "failed:", "replies:", "1", "lost"],
        ["lock", "not", "run:", "it", "must", "not"],
    ]
    assert " ".join(lines[-3:]).strip() == (
        "Medians of 2 rounds of 1 s; 1 client, each with 1 request of 64 bytes in flight; the handler returns at once. "
        "Every reply was checked. Ratios are to asyncio.")
    assert json.loads(report.as_json())["strategies"]["green_router"]["ratio"] == {
        "requests_per_second": 4, "cpu_us_per_request": None}


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
@pytest.mark.parametrize(("suffix", "beginning"), [("png", b"\x89PNG"), ("svg", b"<?xml"), ("pdf", b"%PDF")])
def test_the_picture(tmp_path: Path, suffix: str, beginning: bytes) -> None:
    file = tmp_path / f"bench.{suffix}"
    Report(LOAD, outcomes(5.0)).plot(file)
    assert file.read_bytes().startswith(beginning)


@pytest.mark.skipif(importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed")
def test_a_picture_in_no_known_format(tmp_path: Path) -> None:
    done = CliRunner().invoke(main, ["bench", "--plot", str(tmp_path / "bench.doc")])
    assert done.exit_code == 2
    assert "must end in one of" in done.output


def test_the_programs_are_installed_with_the_package() -> None:
    assert DIRECTORY.is_dir()
    assert len(list(DIRECTORY.glob("*.py"))) == len(STRATEGIES)
