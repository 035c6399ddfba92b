"""What a command starts ends with it, whatever ends the command.

Rules of this file
  1. The command is a program of its own that starts one child and says what its process is; a test
     ends the command, and looks at what is left.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import LIMIT_SECONDS
from left_behind import alive, until_gone
from processes_apart import until

import green_router
from green_router.commands.measured import subprocesses as children
from green_router.commands.measured.subprocesses import (
    Lines,
    Printed,
    child,
    cpu_seconds,
    ending,
    family,
)

needs_proc = pytest.mark.skipif(
    not Path("/proc/self/task").exists(), reason="this system has no /proc"
)

FOREVER = "import time; time.sleep(1000)"


COMMAND = """\
import subprocess, sys
from green_router.commands.measured.subprocesses import child, leave_on_signals

leave_on_signals()
below = (
    "import subprocess, sys, time; "
    "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)']); "
    "print(flush=True); time.sleep(1000)"
)
with child(sys.executable, "-c", below, stdout=subprocess.PIPE) as process:
    process.stdout.readline()
    print(process.pid, flush=True)
    sys.stdin.readline()
"""


def command(*before: str) -> subprocess.Popen[bytes]:
    """A command that has started a child, which has started another."""
    return subprocess.Popen(
        [*before, sys.executable, "-c", COMMAND],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": str(Path(green_router.__file__).parents[1])},
    )


@needs_proc
@pytest.mark.parametrize(
    ("number", "code"),
    [
        (signal.SIGTERM, 128 + signal.SIGTERM),
        (signal.SIGHUP, 128 + signal.SIGHUP),
        (signal.SIGINT, -signal.SIGINT),
        (signal.SIGQUIT, -signal.SIGQUIT),
        (signal.SIGKILL, -signal.SIGKILL),
    ],
)
def test_whatever_ends_the_command_ends_its_children(number: signal.Signals, code: int) -> None:
    with command() as running:
        assert running.stdout
        members = family(int(running.stdout.readline()))
        assert len(members) == 2
        resource.prlimit(running.pid, resource.RLIMIT_CORE, (0, 0))  # SIGQUIT would leave a file
        running.send_signal(number)
        assert running.wait(LIMIT_SECONDS) == code
        until_gone(members)


@needs_proc
def test_an_ignored_hangup_stays_ignored() -> None:
    with command("nohup") as running:
        assert running.stdin
        assert running.stdout
        members = family(int(running.stdout.readline()))
        running.send_signal(signal.SIGHUP)
        running.stdin.write(b"\n")
        running.stdin.flush()
        assert running.wait(LIMIT_SECONDS) == 0
        assert not any(map(alive, members))


@needs_proc
def test_the_watcher_ends_with_its_child() -> None:
    before = family(os.getpid())
    with child(sys.executable, "-c", FOREVER) as process:
        within = family(os.getpid())
    assert process.pid in within
    assert len(within) == len(before) + 2
    until(lambda: family(os.getpid()) == before)


@needs_proc
def test_a_process_whose_name_is_no_text(tmp_path: Path) -> None:
    """A process that another user runs, say; its name is in what is read about it."""
    strange = tmp_path / os.fsdecode(b"\xff) \xfe")
    strange.symlink_to("/bin/sleep")
    with subprocess.Popen([str(strange), "1000"]) as other:
        try:
            until(lambda: b"\xff" in Path(f"/proc/{other.pid}/stat").read_bytes())
            with child(sys.executable, "-c", FOREVER, grace=0.1) as process:
                assert family(other.pid) == [other.pid]
                assert cpu_seconds(process) is not None
            assert process.returncode == -signal.SIGTERM
        finally:
            other.kill()


@needs_proc
def test_it_is_killed_whatever_goes_wrong_before(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: int) -> list[int]:
        raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "no text")

    monkeypatch.setattr(children, "family", fails)
    with pytest.raises(UnicodeDecodeError), child(sys.executable, "-c", FOREVER) as process:
        pass
    assert process.returncode == -signal.SIGKILL


@needs_proc
@pytest.mark.parametrize("action", ["SIG_DFL", "SIG_IGN"])
@pytest.mark.parametrize("own_session", [False, True])
def test_what_a_program_has_started_ends_with_it(action: str, own_session: bool) -> None:
    program = (
        "import signal, subprocess, sys\n"
        f"signal.signal(signal.SIGTERM, signal.{action})\n"
        f"subprocess.Popen([sys.executable, '-c', {FOREVER!r}], start_new_session={own_session})\n"
        "print(flush=True)\n"
        "signal.sigwait([signal.SIGUSR1])\n"
    )
    with child(sys.executable, "-c", program, grace=0.2, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        below = family(process.pid)[1:]
    assert len(below) == 1
    until_gone(below)


@needs_proc
def test_cpu_time_is_that_of_all_processes() -> None:
    work = "import time\nwhile time.process_time() < 0.5: pass\nprint(flush=True)\ntime.sleep(1000)"
    program = (
        "import subprocess, sys\n"
        f"with subprocess.Popen([sys.executable, '-c', {work!r}], stdout=subprocess.PIPE) as "
        "below:\n"
        "    below.stdout.readline()\n"
        "    print(flush=True)\n"
    )
    with child(sys.executable, "-c", program, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        used = cpu_seconds(process)
    assert used is not None
    assert 0.5 <= used < 1


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", "was killed by SIGTERM"),
        (
            "import os, signal; os.kill(os.getpid(), signal.SIGKILL)",
            "was killed by SIGKILL (as where memory runs out)",
        ),
    ],
)
def test_says_how_it_ended(program: str, words: str) -> None:
    with child(sys.executable, "-c", program) as process:
        assert ending(process) == words


@pytest.mark.parametrize(
    ("program", "words"),
    [
        ("pass", ""),
        ("print('one\\n two \\n\\n')", "two"),
        ("import os; os.write(1, b'\\xff')", "\ufffd"),
        ("print('x' * 100_000)", "x" * 300),
    ],
)
def test_the_last_words(program: str, words: str) -> None:
    with Printed() as printed, child(sys.executable, "-c", program, stdout=printed) as process:
        ending(process)
        assert printed.last_words() == words


def test_lines_are_waited_for_within_a_limit() -> None:
    """Two may come at once, and one in pieces; who prints nothing, and who closes its output and
    goes on, are given up."""
    program = (
        "import os, sys; os.write(1, b'one\\ntw'); sys.stdin.readline(); os.write(1, b'o\\n'); "
        f"sys.stdin.readline(); os.close(1); {FOREVER}"
    )
    with child(
        sys.executable, "-c", program, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin
        lines = Lines(process)
        assert lines.next(LIMIT_SECONDS) == b"one"
        with pytest.raises(TimeoutError):
            lines.next(0.01)
        for expected in (b"two", None):
            process.stdin.write("go\n")
            process.stdin.flush()
            assert lines.next(LIMIT_SECONDS) == expected


def test_who_closes_its_output_and_goes_on_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(children, "ENDS_WITHIN", 0.01)
    with child(sys.executable, "-c", FOREVER) as process:
        assert ending(process) == "closed its output and goes on"
