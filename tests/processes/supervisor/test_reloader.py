"""Workers are replaced when a file of the application is written."""

from __future__ import annotations

from collections.abc import Callable

from command_line import CommandLine

from ..conftest import DISPATCH, Service, ready


@DISPATCH
def test_it_reloads_when_a_file_changes(
    command_line: CommandLine, service: Callable[..., Service], dispatch: str
) -> None:
    command_line.write("part.py", "VERSION = b'1'\n")
    server = service(
        "import part\ndef handle_request(request):\n    return part.VERSION\n",
        "--reload",
        "--dispatch",
        dispatch,
    )
    first = frozenset(server.workers())
    assert server.ask(b"") == b"1"
    command_line.write("part.py", "VERSION = b'two'\n")
    server.running.err.until("reloading: part.py changed")
    server.wait_for(ready(1, first))
    assert server.ask(b"") == b"two"


@DISPATCH
def test_a_file_that_a_handler_imports_is_watched_too(
    command_line: CommandLine, service: Callable[..., Service], dispatch: str
) -> None:
    command_line.write("late.py", "VERSION = b'1'\n")
    server = service(
        "def handle_request(request):\n    import late\n    return late.VERSION\n",
        "--reload",
        "--dispatch",
        dispatch,
        "--log-level",
        "debug",
    )
    first = server.workers()
    assert server.ask(b"") == b"1"
    server.running.err.until("late.py too")
    command_line.write("late.py", "VERSION = b'two'\n")
    server.running.err.until("reloading: late.py changed")
    server.wait_for(ready(1, first))
    assert server.ask(b"") == b"two"
