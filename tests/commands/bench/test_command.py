"""``green-router bench``: all strategies serve the checked load, and what goes wrong is found and
said.

Rules of this file
  1. The strategies are run as they are, in short rounds; no figure is compared with another, since
     the machine is not ours alone.
  2. Servers that reply wrongly, and clients that are broken, are programs that a test writes; each
     of their faults must be found, within a limit, and stop nothing else.
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
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from bench_figures import broken_client, load, unseen
from click.testing import CliRunner
from command_line import COMMAND, LIMIT_SECONDS, CommandLine
from left_behind import until_gone
from processes_apart import until

from green_router.commands import main
from green_router.commands.bench import command as bench
from green_router.commands.bench import strategies as bench_strategies
from green_router.commands.bench.clients import Failed, Load
from green_router.commands.bench.report import Outcome
from green_router.commands.bench.strategies import (
    ANY_PORT,
    CannotRun,
    Strategy,
    found,
    started,
    with_workers,
)
from green_router.commands.measured.subprocesses import family
from green_router.commands.terminal import progress
from green_router.testing import PATIENCE

pytestmark = pytest.mark.measures

QUICK = ("--seconds", "0.5", "--rounds", "1", "--clients", "5", "--in-flight", "4")

has_proc = Path("/proc/self/task").exists()
needs_proc = pytest.mark.skipif(not has_proc, reason="this system has no /proc")


# -- the whole command -----------------------------------------------------------------------------


def test_every_strategy_serves_and_every_reply_is_right(command_line: CommandLine) -> None:
    done = command_line.run(
        "bench", *QUICK, "--size", "20000", "--workers", "2", "--json", "bench.json"
    )
    printed = done.stdout.decode()
    assert done.returncode == 0, f"{done.stderr.decode()}{printed}"
    assert max(map(len, printed.splitlines())) <= 80
    assert "lock                      not run: documentation only" in printed
    assert done.stderr.decode().splitlines() == [
        f"1/1 {name}" for name in [*found(), "green_router, 2 workers"]
    ]

    known = json.loads((command_line.directory / "bench.json").read_text())
    assert set(known) == {"versions", "machine", "load", "interrupted", "base", "strategies"}
    assert set(known["versions"]) == {"green_router", "python", "gevent", "pyzmq", "libzmq"}
    assert known["load"] == {
        "clients": 5,
        "in_flight": 4,
        "size_bytes": 20000,
        "seconds": 0.5,
        "rounds": 1,
        "sleep_us": 1000,
        "workers": 2,
        "processes": Load(5, 4, 20000, 0.5, 1000).processes,
    }
    assert known["base"] == "short_poll"
    assert list(known["strategies"]) == [*found(), "green_router, 2 workers"]
    lock = known["strategies"].pop("lock")
    assert lock["not_run"].startswith("documentation only")
    assert (lock["failed"], lock["rounds"]) == (None, [])
    for name, strategy in known["strategies"].items():
        assert (strategy["not_run"], strategy["failed"]) == (None, None), name
        check_figures(strategy)
        assert re.search(rf"^ ?{re.escape(name)} +[\d,]+ ", printed, re.M), printed


def check_figures(strategy: dict[str, Any]) -> None:
    """Every figure is there, and is possible with 20 requests in flight that take a millisecond
    each."""
    [measured] = strategy["rounds"]
    assert set(measured) == {
        "seconds",
        "replies",
        "requests_per_second",
        "latency_us",
        "cpu_us_per_request",
        "load_cpu_us_per_request",
        "load_busy",
    }
    assert measured["replies"] >= max(20, measured["requests_per_second"] * measured["seconds"])
    # a sleep may end a little early, by another clock than its own
    assert measured["requests_per_second"] <= 25_000
    assert measured["latency_us"]["p50"] >= 800
    assert list(measured["latency_us"]) == ["p50", "p90", "p99", "p99_9", "max"]
    assert list(measured["latency_us"].values()) == sorted(measured["latency_us"].values())
    assert (
        (measured["cpu_us_per_request"] > 0)
        if has_proc
        else (measured["cpu_us_per_request"] is None)
    )
    assert measured["load_cpu_us_per_request"] > 0
    assert set(strategy["median"]) == set(measured) - {"seconds", "replies"}
    assert 0 < measured["load_busy"] <= 1.1  # it has two threads, whose clocks are not the wall's
    assert set(strategy["ratio"]) == set(strategy["median"])
    assert set(strategy["ratio"]["latency_us"]) == set(measured["latency_us"])


def test_the_strategies_take_turns(command_line: CommandLine) -> None:
    done = command_line.run(
        "bench",
        "--seconds",
        "0.5",
        "--rounds",
        "3",
        "--strategies",
        "green_router,short_poll",
        "--sleep-us",
        "0",
        "--json",
        "bench.json",
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stderr.decode().splitlines() == [
        "1/3 green_router",
        "1/3 short_poll",
        "2/3 short_poll",
        "2/3 green_router",
        "3/3 green_router",
        "3/3 short_poll",
    ]
    strategies = json.loads((command_line.directory / "bench.json").read_text())["strategies"]
    for strategy in strategies.values():
        rates = [measured["requests_per_second"] for measured in strategy["rounds"]]
        assert len(rates) == 3
        assert strategy["median"]["requests_per_second"] == sorted(rates)[1]
    assert strategies["short_poll"]["ratio"]["requests_per_second"] == 1


def test_in_a_terminal_there_is_a_bar(command_line: CommandLine) -> None:
    terminal, inside = pty.openpty()
    fcntl.ioctl(inside, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    process = subprocess.Popen(
        [*COMMAND, "bench", *QUICK, "--strategies", "receive_and_send_threads"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        env=command_line.env | {"TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(inside)
    seen = b""
    with suppress(OSError):  # Linux's way to say that nobody has the terminal open any more
        while came := os.read(terminal, 65536):
            seen += came
    os.close(terminal)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert process.wait(LIMIT_SECONDS) == 0, text
    assert re.search("1/1 receive_and_send_threads +\u2501+", text)
    assert max(len(part) for part in re.split(r"[\r\n]+", text)) <= 80


def test_nothing_that_can_be_run_is_a_failure(command_line: CommandLine) -> None:
    done = command_line.run("bench", *QUICK, "--strategies", "lock")
    assert done.returncode == 1
    assert " ".join(done.stdout.decode().split()) == (
        "lock not run: documentation only: a ROUTER behind a mutex stops answering, or aborts the "
        "process"
    )


def test_the_bar_gets_to_its_end_whatever_happens(tmp_path: Path) -> None:
    class Seen:
        reached: list[float] = []  # noqa: RUF012 - one object

        def say(self, step: str) -> None:
            pass

        def reach(self, seconds: float) -> None:
            self.reached.append(seconds)

        advance = reach

    strategies = [faulty(tmp_path, "sys.exit('no more')"), found()["lock"]]
    outcomes = {strategy.name: Outcome(strategy.title) for strategy in strategies}
    bench.compare(strategies, outcomes, load(patience=PATIENCE), 2, Seen())
    assert Seen.reached == [0.5, 1.0, 1.5, 2.0]


# -- how it ends -----------------------------------------------------------------------------------


def programs(pid: int) -> set[str]:
    """The Python programs that a process has started."""
    found = set()
    for member in family(pid)[1:]:
        with suppress(OSError):
            found |= {
                Path(word).name
                for word in Path(f"/proc/{member}/cmdline").read_text().split("\0")
                if word.endswith(".py")
            }
    return found


@needs_proc
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGINT, 1),
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_a_signal_ends_all_of_it(
    command_line: CommandLine, number: signal.Signals, code: int
) -> None:
    running = command_line.start(
        "bench", "--seconds", "60", "--strategies", "short_poll,green_router"
    )
    until(lambda: programs(running.process.pid) == {"load.py", "01_short_poll.py"})
    below = family(running.process.pid)[1:]
    running.process.send_signal(number)
    assert running.ends() == code
    until_gone(below)
    assert "Traceback" not in "\n".join(running.err.rest())
    assert "short_poll" not in "".join(
        line for line in running.out.rest() if "not measured" not in line
    )


def test_after_ctrl_c_there_is_what_was_measured(command_line: CommandLine) -> None:
    running = command_line.start(
        "bench",
        "--seconds",
        "0.5",
        "--rounds",
        "500",
        "--strategies",
        "short_poll,green_naive",
        "--json",
        "bench.json",
    )
    running.err.until("3/500 short_poll")
    running.process.send_signal(signal.SIGINT)
    assert running.ends() == 1
    printed = "\n".join(running.out.rest())
    assert re.search(r"^ ?short_poll +[\d,]+ +1.00 ", printed, re.M), printed
    assert "Medians of 2 rounds of 0.5 s" in printed
    assert printed.endswith("Interrupted: the table has what was measured until then.")
    known = json.loads((command_line.directory / "bench.json").read_text())
    assert known["interrupted"] is True
    assert [len(strategy["rounds"]) for strategy in known["strategies"].values()] == [2, 2]


def test_json_in_place_of_the_table(command_line: CommandLine) -> None:
    done = command_line.run("bench", *QUICK, "--strategies", "asyncio", "--json", "-")
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["strategies"]["asyncio"]["median"]["requests_per_second"] > 0


@pytest.mark.skipif(
    importlib.util.find_spec("matplotlib") is None, reason="matplotlib is not installed"
)
def test_the_picture_has_throughput_latency_and_cpu(command_line: CommandLine) -> None:
    done = command_line.run(
        "bench",
        *QUICK,
        "--strategies",
        "short_poll,green_router",
        "--plot",
        "bench.svg",
        "--json",
        "bench.json",
    )
    assert done.returncode == 0, done.stderr.decode()
    drawn = re.findall(
        r"<text[^>]*>([^<]*)</text>", (command_line.directory / "bench.svg").read_text()
    )
    texts = [text.strip() for text in drawn]
    for label in (
        "short_poll",
        "green_router",
        "requests/s",
        "latency, ms",
        "p50",
        "p90",
        "p99",
        "p99.9",
        "CPU of the server, us/request",
    ):
        assert label in texts
    for strategy in json.loads((command_line.directory / "bench.json").read_text())[
        "strategies"
    ].values():
        assert any(f"{strategy['median']['requests_per_second']:,.0f}" in text for text in texts)
        assert not has_proc or any(
            f"{strategy['median']['cpu_us_per_request']:,.0f}" in text.replace(".", "")
            or f"{strategy['median']['cpu_us_per_request']:,.1f}" in text
            for text in texts
        )
    assert any("from the lowest round to the highest" in text for text in texts)


def test_the_users_environment_changes_nothing(command_line: CommandLine) -> None:
    command_line.env |= {
        "GREEN_ROUTER_WORKERS": "many",
        "GREEN_ROUTER_MAX_IN_FLIGHT": "none at all",
        "REPLY_SECONDS": "long",
    }
    done = command_line.run("bench", *QUICK, "--strategies", "raw_tcp", "--workers", "1")
    assert done.returncode == 0, done.stdout.decode()


def test_workers_leave_the_standard_library_as_it_is() -> None:
    """As the strategy does when it runs alone: the same handler in the same surroundings."""
    assert "--no-patch" in with_workers(found()["green_router"], 2).command


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--clients", "0"], "0 is not in the range"),
        (["--in-flight", "0"], "0 is not in the range"),
        (["--size", "15"], "15 is not in the range 16<="),
        (["--seconds", "nan"], "nan must be a number of seconds above 0"),
        (["--rounds", "0"], "0 is not in the range"),
        (["--sleep-us", "-1"], "-1 is not in the range"),
        (["--workers", "0"], "0 is not in the range"),
        (
            ["--strategies", "green_rooter"],
            "there is no strategy 'green_rooter'; did you mean green_router?",
        ),
        (["--strategies", ""], "there is no strategy ''; there are short_poll, lock,"),
        (["--json", "nowhere/bench.json"], "'nowhere/bench.json' cannot be written"),
        (["--json", "."], "is a directory"),
    ],
)
def test_refuses_what_is_wrong(arguments: list[str], words: str) -> None:
    done = CliRunner().invoke(main, ["bench", *arguments])
    assert done.exit_code == 2
    assert words in " ".join(done.output.split())


# -- faults that the load must find ----------------------------------------------------------------

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


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("data = data[:-1] + bytes([data[-1] ^ 1])", r"replies: \d+ wrong"),
        ("data = data[:-1]", r"replies: \d+ wrong"),
        ("data = b''", r"replies: \d+ wrong, \d+ lost"),
        ("data = data[::-1]", r"replies: \d+ wrong, \d+ lost"),
        (
            (
                "data, before = before or data, data   # the request before this one: mostly "
                "another client's"
            ),
            r"replies: \d+ wrong, \d+ lost(, \d+ unasked)?",
        ),
        (
            "data = before = before or data        # always the same",
            r"replies: \d+ wrong, \d+ lost, \d+ unasked",
        ),
        ("router.send_multipart([client_id, b'', data])", r"replies: \d+ unasked"),
        ("continue", r"replies: \d+ lost"),
        (
            "router.send_multipart([client_id, b'', b'', data]); continue",
            r"replies: \d+ wrong, \d+ lost",
        ),
        ("router.send_multipart([client_id, data]); continue", r"replies: \d+ wrong, \d+ lost"),
        (
            "router.send_multipart([client_id, b'x', data]); continue",
            r"replies: \d+ wrong, \d+ lost",
        ),
        ("sys.exit('no more')", "it ended with exit code 1; its last words: no more"),
        (
            "print('no more', flush=True); import os; os.kill(os.getpid(), 9)",
            "it was killed by SIGKILL .*; its last words: no more",
        ),
        (
            "print('cannot', file=sys.stderr, flush=True); continue",
            r"replies: \d+ lost; its last words: cannot",
        ),
        # after the warm-up
        ("if time.monotonic() > late: data = b''", r"replies: \d+ wrong, \d+ lost"),
        (
            "if time.monotonic() > late: router.send_multipart([client_id, b'', data])",
            r"replies: \d+ unasked",
        ),
        ("if time.monotonic() > late: continue", r"replies: \d+ lost"),
        (
            "if time.monotonic() > late: sys.exit('no more')",
            "it ended with exit code 1; its last words: no more",
        ),
    ],
)
def test_finds_what_is_wrong(tmp_path: Path, code: str, words: str) -> None:
    strategy = faulty(tmp_path, code)
    # where nothing is lost, a machine that stands still for a while must not make it so
    patience = PATIENCE if re.search("lost|it ended|it was killed", words) else 20 * PATIENCE
    with pytest.raises(Failed, match=f"^{words}$"):
        bench.measure(strategy, load(patience=patience), unseen)


def test_the_others_go_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    silent = tmp_path / "silent.py"
    silent.write_text("raise SystemExit(3)")
    strategies = [
        faulty(tmp_path, "data = b''"),
        Strategy("silent", "It is silent.", silent, (sys.executable, str(silent))),
        found()["green_router"],
    ]
    outcomes = {strategy.name: Outcome(strategy.title) for strategy in strategies}
    with progress(1) as shown:
        bench.compare(strategies, outcomes, load(patience=PATIENCE), 2, shown)
    assert outcomes["faulty"].failed == "replies: 40 wrong, 40 lost"
    assert outcomes["silent"].not_run == "it ended with exit code 3 and printed nothing"
    assert len(outcomes["green_router"].rounds) == 2
    assert capsys.readouterr().err.splitlines() == [
        "1/2 faulty",
        "1/2 silent",
        "1/2 green_router",
        "2/2 green_router",
    ]


def test_a_client_that_is_always_at_work_is_the_limit(tmp_path: Path) -> None:
    busy = "end = time.process_time() + 0.005\n        while time.process_time() < end: pass"
    outcome = Outcome("", [bench.measure(broken_client(tmp_path, busy), load(), unseen)])
    assert outcome.load_bound
    outcome = Outcome("", [bench.measure(faulty(tmp_path, "time.sleep(0.01)"), load(), unseen)])
    assert not outcome.load_bound


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("two_sockets", r"replies: \d+ lost"),
        ("raw_tcp", r"replies: \d+ lost|the server has read nothing for 5 s"),
        ("green_router", r"replies: \d+ lost"),
    ],
)
def test_a_server_that_stops_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    """It serves, and a second later it stands still, but does not end, so that its connections
    stay."""
    serving = bench_strategies.Running.wait_until_serving

    def serving_for_a_second(self: bench_strategies.Running) -> None:
        serving(self)
        threading.Timer(1.0, self.process.send_signal, [signal.SIGSTOP]).start()

    monkeypatch.setattr(bench_strategies.Running, "wait_until_serving", serving_for_a_second)
    with pytest.raises(Failed, match=f"^({words})$"):
        bench.measure(found()[name], Load(4, 4, 1024**2, 60.0, 0, patience=PATIENCE), unseen)


def test_a_program_that_cannot_start_says_why(tmp_path: Path) -> None:
    program = tmp_path / "broken.py"
    program.write_text("import no_such_module")
    broken = Strategy("broken", "", program, (sys.executable, str(program), ANY_PORT))
    with (
        pytest.raises(CannotRun, match=r"^ModuleNotFoundError: No module named 'no_such_module'$"),
        started(broken, 0),
    ):
        pass
