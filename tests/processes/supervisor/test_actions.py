"""What is to be done, one thing after the other; and what goes wrong in it."""

from __future__ import annotations

import logging

import pytest
from command_line import CommandLine

from green_router.processes.supervisor.actions import ActionQueue


def broken() -> None:
    raise RuntimeError("broken")


def test_an_error_does_not_end_what_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    actions = ActionQueue(lambda: True)
    done: list[str] = []
    actions.do(broken)
    actions.do(lambda: done.append("next"))
    with caplog.at_level(logging.ERROR):
        actions.act()
    actions.act()
    assert done == ["next"]
    assert "RuntimeError: broken" in caplog.text


def test_before_anything_goes_on_it_is_raised() -> None:
    actions = ActionQueue(lambda: False)
    actions.do(broken)
    with pytest.raises(RuntimeError, match="broken"):
        actions.act()


def test_a_service_that_cannot_open_ends(command_line: CommandLine) -> None:
    """Whatever the error: here one that libzmq has for a process at a limit."""
    command_line.env["XDG_RUNTIME_DIR"] = str(command_line.directory)
    command_line.write("app.py", "def handle_request(request): return request.data\n")
    starter = command_line.write(
        "at_the_limit.py",
        """
import errno, zmq
from green_router.serving import server
from green_router.commands import main
def start(self):
    raise zmq.ZMQError(errno.EMFILE)
server.Server.start = start
main()
""",
    )
    command_line.command = (*command_line.command[:1], str(starter))
    ended = command_line.run(
        "serve", "app:handle_request", "--workers", "2", "--bind", "tcp://127.0.0.1:0"
    )
    assert ended.returncode not in (0, -9)
    assert b"Too many open files" in ended.stderr
    assert ended.stdout == b""
