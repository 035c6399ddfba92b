"""The run of a worker: a real process, and its supervisor in the hand of the test; what real ones
make of each other is in supervisor/."""

from __future__ import annotations

import marshal
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine, Running

from green_router.messages.ledger import ANSWERED, FAILED
from green_router.processes import stacks
from green_router.processes.channel.protocol import Message, boot, ping, reopen_logs, stop, where
from green_router.processes.channel.stream import HEAD, encoded
from green_router.processes.supervisor.child import LEAVE_WITHIN
from green_router.processes.worker import main
from green_router.processes.worker.runtime import NOT_MINE, REPLACE_ME

from ..conftest import ANY_PORT, DISPATCH, Service, ready

ECHO = """
import gevent
def handle_request(request):
    if request.data == b"slow":
        gevent.sleep(3600)
    return request.data
"""

CONFIGURATION = {
    "loader": "green_router.commands.application:load",
    "application": "app:handle_request",
    "settings": {},
    "until_ready": False,
    "connect": (),
    "patch": False,
    "offload": "threads",
    "watch": False,
    "gc": (False, None),
    "switch_interval": None,
    "log": ("info", "text", None),
    "slot": 1,
    "endpoints": None,
    "max_requests": None,
}


class Supervised(Running):
    """A worker process. Attributes: channel, the supervisor's end of its channel; stacks, where its
    stacks go."""

    def __init__(self, stack: ExitStack, line: CommandLine, config: dict[str, Any]) -> None:
        self.channel, theirs = socket.socketpair()
        stack.callback(self.channel.close)
        self.channel.settimeout(LIMIT_SECONDS)
        self.stacks = stacks.make()
        stack.callback(os.close, self.stacks)
        self._heard: list[Message] = []
        with theirs:
            # What becomes of stdout is no matter: a supervisor hands on its own.
            fds = theirs.fileno(), self.stacks
            for fd in fds:
                os.set_inheritable(fd, True)
            command = (sys.executable, main.__file__, *map(str, fds), "slot=1")
            super().__init__(command, line.directory, line.env, pass_fds=fds)
        stack.callback(self.close)
        self.say(
            boot(
                {
                    **CONFIGURATION,
                    "supervisor": os.getpid(),
                    "path": [str(line.directory), *sys.path],
                    **config,
                }
            )
        )

    def say(self, *messages: Any) -> None:
        self.channel.sendall(encoded([*messages]))

    def hears(self, name: Any) -> Message:
        """The next message, which begins with this. **Blocks.** That it is idle or active is passed
        over where that is not what is waited for."""
        while True:
            if not self._heard:
                (size,) = HEAD.unpack(self._exactly(HEAD.size))
                self._heard += marshal.loads(self._exactly(size))
            message = self._heard.pop(0)
            if message[0] == name:
                return message
            assert message[0] in ("idle", "active"), message

    def hears_no_more(self) -> None:
        """It has closed its end. **Blocks.**"""
        assert not self._heard
        assert self.channel.recv(1) == b""

    def _exactly(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            more = self.channel.recv(size - len(data))
            assert more, "the worker has ended"
            data += more
        return data

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self.out.rest()
        self.err.rest()


@pytest.fixture
def worker(command_line: CommandLine) -> Iterator[Callable[..., Supervised]]:
    """``worker(application, **configuration)``: a worker that boots."""
    with ExitStack() as stack:

        def start(application: str = ECHO, **config: Any) -> Supervised:
            command_line.write("app.py", application)
            return Supervised(stack, command_line, config)

        yield start


def request(key: int, data: bytes) -> Message:
    return key, 2, time.monotonic(), [b"peer", b"", data], "127.0.0.1", None


# -- from the beginning to the end -----------------------------------------------------------------


def test_it_says_that_it_is_ready_works_and_takes_its_leave(
    worker: Callable[..., Supervised],
) -> None:
    one = worker()
    assert one.hears("ready") == ("ready", [])
    one.say(request(7, b"x"))
    assert one.hears(7) == (7, ANSWERED, b"x")
    one.say(stop(1.0))
    assert one.hears("bye") == ("bye", None)
    one.hears_no_more()
    assert one.ends() == 0
    assert one.err.rest() == []


def test_it_is_asked_whether_it_turns_from_the_beginning_on(
    worker: Callable[..., Supervised], command_line: CommandLine
) -> None:
    """Also while the application loads, where that gives way."""
    gate = command_line.write("wait", "")
    one = worker(
        "import gevent, os\nprint('boots', flush=True)\n"
        "while os.path.exists('wait'):\n    gevent.sleep(0.01)\n" + ECHO
    )
    one.out.until("boots")
    one.say(ping(1))
    assert one.hears("pong") == ("pong", 1, None)
    one.hears("idle")
    gate.unlink()
    one.hears("ready")


def test_once_asked_it_says_when_it_rests_and_when_it_does_not(
    worker: Callable[..., Supervised],
) -> None:
    one = worker()
    one.hears("ready")
    one.say(ping(3))
    assert one.hears("pong") == ("pong", 3, None)
    one.hears("idle")
    one.say(request(1, b"x"))
    one.hears("active")
    one.hears(1)


@pytest.mark.parametrize("number", REPLACE_ME)
def test_a_signal_to_go_is_a_wish_that_the_supervisor_grants(
    worker: Callable[..., Supervised], number: int
) -> None:
    one = worker()
    one.hears("ready")
    one.process.send_signal(number)
    one.hears("recycle")
    one.say(request(1, b"still here"))
    one.hears(1)
    one.say(stop(1.0))
    one.hears("bye")
    assert one.ends() == 0


@pytest.mark.parametrize("number", NOT_MINE)
def test_a_signal_for_the_supervisor_does_not_end_it(
    worker: Callable[..., Supervised], number: int
) -> None:
    one = worker()
    one.hears("ready")
    one.process.send_signal(number)
    one.say(request(1, b"still here"))
    one.hears(1)


def test_a_boot_that_takes_too_long_leaves_a_stack(
    worker: Callable[..., Supervised], command_line: CommandLine
) -> None:
    """``where`` has it written down which line of the application waits."""
    gate = command_line.write("wait", "")
    one = worker(
        "import gevent, os\ndef waits_here():\n    print('boots', flush=True)\n"
        "    while os.path.exists('wait'):\n        gevent.sleep(0.01)\nwaits_here()\n" + ECHO
    )
    one.out.until("boots")
    one.say(where(), ping(1))
    one.hears("pong")
    written = stacks.read(one.stacks)
    assert written.startswith("the greenlet that boots waits here:\n")
    assert "in waits_here" in written
    gate.unlink()


def test_logs_are_opened_again(
    worker: Callable[..., Supervised], command_line: CommandLine
) -> None:
    """When it is told to, and when somebody has sent it the signal for that."""
    path = command_line.directory / "log"
    one = worker(
        "import logging\ndef handle_request(request):\n"
        "    logging.getLogger('app').warning('%s', request.data)\n    return b''\n",
        log=("info", "text", str(path)),
    )
    one.hears("ready")
    for number, reopen in enumerate(
        [lambda: one.say(reopen_logs()), lambda: one.process.send_signal(signal.SIGUSR1)]
    ):
        path.rename(f"{path}.{number}")
        reopen()
        while not path.exists():
            one.say(request(0, b"not yet"))
            one.hears(0)
        one.say(request(1, b"line %d" % number))
        one.hears(1)
        assert f"line {number}" in path.read_text()


def test_a_log_that_cannot_be_opened_costs_no_worker(worker: Callable[..., Supervised]) -> None:
    """The supervisor could; its worker is needed more than its log."""
    one = worker(log=("info", "text", "/no/such/directory/log"))
    one.hears("ready")
    one.err.until("/no/such/directory/log cannot be opened (No such file or directory)")


# -- how it ends otherwise -------------------------------------------------------------------------


def test_it_ends_with_its_channel(worker: Callable[..., Supervised]) -> None:
    """Whoever is at the other end may have been killed; what is in hand is nobody's any more."""
    one = worker()
    one.hears("ready")
    one.say(request(1, b"slow"))
    one.channel.shutdown(socket.SHUT_RDWR)
    one.err.until("the supervisor is gone: ending")
    assert one.ends() == 0


@pytest.mark.parametrize(
    "said",
    [
        HEAD.pack(8) + b"garbage!",
        HEAD.pack(1 << 60),
        encoded([("nonsense", 1)]),
        encoded([("stop",)]),
        encoded([(1, 2)]),
    ],
    ids=["garbage", "length", "kind", "fields", "request"],
)
def test_what_is_no_message_ends_it(worker: Callable[..., Supervised], said: bytes) -> None:
    """It is not passed over: both ends are of one installation."""
    one = worker()
    one.hears("ready")
    one.channel.sendall(said)
    one.process.wait(LIMIT_SECONDS)
    assert one.err.rest()


def test_a_stop_in_the_middle_of_a_boot_is_obeyed_when_it_is_over(
    worker: Callable[..., Supervised],
) -> None:
    one = worker()
    one.say(stop(0.0))
    one.hears("ready")
    assert one.hears("bye") == ("bye", None)
    assert one.ends() == 0


def test_a_second_stop_shortens_the_time(worker: Callable[..., Supervised]) -> None:
    """Of work after the reply, which is all that is waited for."""
    one = worker(
        "import gevent\ndef handle_request(request):\n"
        "    request.reply(b'early')\n    gevent.sleep(3600)\n"
    )
    one.hears("ready")
    one.say(request(1, b"x"))
    one.hears(1)
    one.say(stop(3600.0))
    one.say(ping(1))
    one.hears("pong")
    one.say(stop(0.0))
    assert one.hears("bye") == ("bye", None)
    assert one.ends() == 0


def test_a_handler_that_leaves_says_what_is_to_be_said_first(
    worker: Callable[..., Supervised],
) -> None:
    one = worker("def handle_request(request):\n    raise SystemExit(7)\n")
    one.hears("ready")
    one.say(request(1, b"x"))
    one.hears("closing")
    assert one.hears(1) == (1, FAILED, None)
    one.hears("bye")
    assert one.ends() == 7


# -- what cannot boot ------------------------------------------------------------------------------


SUPERVISOR = """
import sys
from green_router import GreenRouterError
from green_router.processes.supervisor.supervisor import Supervisor
try:
    service = {{"application": "app:handle_request", "bind": ["tcp://127.0.0.1:0"],
               "workers": 2, "dispatch": {dispatch!r}}}
    Supervisor("loader:load", service, {{}}, print).run()
except GreenRouterError as error:
    sys.exit(f"{{type(error).__name__}}: {{error}}")
"""


def test_a_long_error_arrives_whole(command_line: CommandLine) -> None:
    """Longer than what the kernel keeps for a line."""
    command_line.write("app.py", "raise RuntimeError('x' * 5_000_000)")
    done = command_line.run("serve", "app:handle_request", "--bind", ANY_PORT, "--workers", "1")
    assert done.returncode == 4
    assert b"x" * 5_000_000 in done.stderr


@DISPATCH
@pytest.mark.parametrize(
    ("raised", "words"),
    [
        ("BindError('tcp://x', 'it is mine', 98)", "BindError: cannot bind tcp://x: it is mine"),
        (
            "ConfigError('grace', object, 'a better one')",
            "ConfigError: grace = \"<class 'object'>\": must be a better one",
        ),
        ("ApplicationError('it is old')", "ApplicationError: it is old"),
        (
            "KeyError('x')",
            (
                "ApplicationError: the worker ended with exit code 1 while it loaded "
                "app:handle_request"
            ),
        ),
    ],
)
def test_an_error_arrives_as_what_it_was(
    command_line: CommandLine, raised: str, words: str, dispatch: str
) -> None:
    command_line.write(
        "loader.py", f"from green_router import *\ndef load(target):\n    raise {raised}\n"
    )
    program = command_line.write("program.py", SUPERVISOR.format(dispatch=dispatch))
    done = subprocess.run(
        [sys.executable, program],
        env=command_line.env,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == words
    assert done.stdout == ""


# -- with a real supervisor ------------------------------------------------------------------------


def test_a_worker_that_says_goodbye_gets_nothing_more(service: Callable[..., Service]) -> None:
    """It takes its time to end, and is killed when that is too long; meanwhile the other one
    serves."""
    server = service(
        """
import atexit, os, time
def handle_request(request):
    if request.data == b"leave":
        atexit.register(time.sleep, 3600)
        raise SystemExit(5)
    return b"%d" % os.getpid()
""",
        "--workers",
        "2",
    )
    server.client(zmq.DEALER).send_multipart([b"", b"leave"])
    started = time.monotonic()
    server.running.err.until("SystemExit")
    while time.monotonic() < started + LEAVE_WITHIN / 2:
        server.ask(b"")
    server.running.err.until("did not end in time and was killed by SIGKILL")
    stats = server.wait_for(ready(2))
    assert stats["sum"]["fates"]["failed"] == 1
    assert stats["sum"]["received"] == 1 + stats["sum"]["fates"]["answered"]
