"""The program of a worker, before it has imported anything of this package: what it is told, what
it ends with, and what it leaves to nobody."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from green_router.processes.channel.protocol import boot
from green_router.processes.channel.stream import HEAD, encoded
from green_router.processes.worker import main
from green_router.processes.worker.main import FORCE_AFTER, die_with, force_end, read_config

from ..conftest import DISPATCH, PATIENCE, Service

READS = """
import sys
from green_router.processes.worker.main import read_config
print("reads", flush=True)
print(read_config(int(sys.argv[1])), flush=True)
"""

ENDED = "the supervisor ended before it said what to do"

# -- what it is told -------------------------------------------------------------------------------


def test_the_configuration_is_read_however_it_comes() -> None:
    """Byte by byte; and nothing of what follows is."""
    config = {"application": "app:handle", "path": ["x" * 100]}
    data = encoded([boot(config)])
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data[:3])
        program = subprocess.Popen(
            [sys.executable, "-c", READS, str(theirs.fileno())],
            stdout=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
            text=True,
        )
        with program:
            assert program.stdout is not None
            assert program.stdout.readline() == "reads\n"
            for byte in data[3:]:
                ours.sendall(bytes([byte]))
            ours.sendall(b"and more")
            assert program.stdout.readline() == f"{config}\n"
        assert theirs.recv(100) == b"and more"


@pytest.mark.parametrize("length", [0, 1, HEAD.size - 1, HEAD.size, HEAD.size + 5])
def test_a_supervisor_that_ends_in_the_middle_is_an_end_and_no_crash(length: int) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(encoded([boot({"x": 1})])[:length])
        with pytest.raises(SystemExit, match=ENDED):
            read_config(theirs.fileno())
        theirs.getsockname()  # it is still open: whoever made it closes it


@pytest.mark.parametrize(
    "data",
    [HEAD.pack(8) + b"garbage!", encoded([]), encoded([("boot",)]), encoded([boot({}), boot({})])],
    ids=["garbage", "nothing", "no field", "two"],
)
def test_what_is_no_configuration_boots_nothing(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        with ours:
            ours.sendall(data)
        with pytest.raises((SystemExit, ValueError, EOFError)):
            read_config(theirs.fileno())


def test_a_worker_without_a_supervisor_says_why_and_nothing_more(tmp_path: Path) -> None:
    """It has imported nothing of this package by then."""
    ours, theirs = socket.socketpair()
    with open(tmp_path / "stacks", "wb") as stacks, theirs:
        ours.close()
        done = subprocess.run(
            [sys.executable, main.__file__, str(theirs.fileno()), str(stacks.fileno()), "slot=1"],
            pass_fds=[theirs.fileno(), stacks.fileno()],
            capture_output=True,
            text=True,
            timeout=30 * PATIENCE,
            check=False,
        )
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{ENDED}\n")


@pytest.mark.parametrize("number", main.NOT_YET)
def test_a_signal_for_the_supervisor_does_not_end_one_that_has_not_booted(
    tmp_path: Path, number: int
) -> None:
    ours, theirs = socket.socketpair()
    with ours, open(tmp_path / "stacks", "wb") as stacks:
        with theirs:
            process = subprocess.Popen(
                [sys.executable, main.__file__, str(theirs.fileno()), str(stacks.fileno()), "x"],
                pass_fds=[theirs.fileno(), stacks.fileno()],
                stderr=subprocess.PIPE,
            )
        with process:
            while not catches(process.pid, number):
                assert process.poll() is None
                time.sleep(0.005)
            process.send_signal(number)
            ours.close()
            assert process.stderr is not None
            assert process.stderr.read().decode() == f"{ENDED}\n"
        assert process.returncode == 1


def catches(pid: int, number: int) -> bool:
    """Whether a process has a handler for that signal, as proc(5) has it."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("SigCgt:"):
            return bool(int(line.split()[1], 16) >> (number - 1) & 1)
    raise AssertionError


# -- what it ends with -----------------------------------------------------------------------------

PARENT = """
import os, signal, subprocess, sys
child = subprocess.Popen([sys.executable, "-c", '''
import os, signal
from green_router.processes.worker.main import die_with
print(os.getpid(), die_with(os.getppid()), flush=True)
signal.pause()
'''])
signal.pause()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's")
def test_the_kernel_ends_it_with_its_supervisor() -> None:
    """However that ends, and though nothing runs in the worker that could notice."""
    with subprocess.Popen(
        [sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        pid, asked = parent.stdout.readline().split()
        assert asked == "True"
        parent.kill()
        # Its end of this pipe closes with it.
        assert parent.stdout.read() == ""
    end = time.monotonic() + 30 * PATIENCE
    while Path(f"/proc/{pid}/stat").exists() and state(pid) != "Z":
        assert time.monotonic() < end
        time.sleep(0.005)


def state(pid: str) -> str:
    """Of a process, as proc(5) has it."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="prctl(2) is Linux's")
def test_one_whose_supervisor_has_just_ended_ends_at_once() -> None:
    """The kernel tells of an end that is to come, not of one that was."""
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            "from green_router.processes.worker.main import die_with; die_with(1 << 22); print(1)",
        ],
        capture_output=True,
        timeout=30 * PATIENCE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, b"")


@pytest.mark.parametrize("why", ["another system", "no ctypes", "forbidden"])
def test_where_the_kernel_does_not_a_thread_is_wanted(
    monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "another system":
        monkeypatch.setattr(sys, "platform", "darwin")
    elif why == "no ctypes":
        monkeypatch.setitem(sys.modules, "ctypes", None)
    else:
        import ctypes

        class Forbidden:
            def __init__(self, name: None) -> None:
                self.prctl: Callable[[int, int], int] = lambda what, number: -1

        monkeypatch.setattr(ctypes, "CDLL", Forbidden)
    assert die_with(os.getppid()) is False


def test_force_comes_last() -> None:
    """When the channel has ended, and after the time that a worker has to end by itself."""
    done: list[Any] = []
    force_end(lambda: done.append("ended"), done.append, lambda code: done.append(("left", code)))
    assert done == ["ended", FORCE_AFTER, ("left", 1)]


def test_elsewhere_a_thread_sees_to_that() -> None:
    """Where the kernel does not: the end of the line ends the process, whatever its main thread
    does."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        program = (
            "import os, select, sys, time, _thread\n"
            "from green_router.processes.worker.main import force_end\n"
            "end = select.poll()\n"
            "end.register(int(sys.argv[1]), 0)\n"
            "_thread.start_new_thread(force_end, (end.poll, time.sleep, os._exit))\n"
            "print('ready', flush=True)\n"
            "while True: pass\n"
        )
        with subprocess.Popen(
            [sys.executable, "-c", program, str(theirs.fileno())],
            stdout=subprocess.PIPE,
            pass_fds=[theirs.fileno()],
        ) as process:
            theirs.close()
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            started = time.monotonic()
            ours.close()
            assert process.wait(30 * PATIENCE) == 1
            assert time.monotonic() - started > FORCE_AFTER * 0.9


# -- what it leaves to nobody ----------------------------------------------------------------------


@DISPATCH
def test_what_an_application_starts_inherits_nothing(
    service: Callable[..., Service], dispatch: str
) -> None:
    """Also where it closes nothing: a daemon that it starts must not hold the port, or the line to
    the supervisor."""
    server = service(
        """
import subprocess
def handle_request(request):
    command = ["sh", "-c", "readlink /proc/self/fd/*"]
    return subprocess.run(command, close_fds=False, stdout=subprocess.PIPE).stdout
""",
        "--workers",
        "2",
        "--dispatch",
        dispatch,
    )
    inherited = server.ask(b"").decode().split()
    assert not [name for name in inherited[3:] if not name.startswith("/proc/")], inherited


def test_no_file_beside_the_worker_is_named_like_the_standard_library() -> None:
    assert (
        not {path.stem for path in Path(main.__file__).parent.glob("*.py")}
        & sys.stdlib_module_names
    )
