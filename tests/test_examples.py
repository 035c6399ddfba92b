"""Every example does what its header promises.

A header shows one terminal: ``$ command``, with ``&`` for one that goes on in the background, and
below it the lines that are printed until the next command is given. This file gives the same
commands to a real terminal, with a port of the system's choice, and compares the lines. Between
programs that run at the same time there is no order of lines; within one program there is.
"""

from __future__ import annotations

import ast
import runpy
import shlex
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import zmq
from terminal import ROOT, Program, Terminal

from green_router.testing import RunningServer, eventually

pytestmark = pytest.mark.examples

DEFAULT_ENDPOINT = "tcp://127.0.0.1:5555"
ANY_PORT = "tcp://127.0.0.1:*"

# It shows what must not be run; the tests of the bench look at it.
EXAMPLES = sorted(
    str(path.relative_to(ROOT))
    for path in (ROOT / "examples").rglob("*.py")
    if path.name != "02_lock.py"
)


SERVED = [
    example
    for example in EXAMPLES
    if "green-router serve" in (ROOT / example).read_text(encoding="utf-8").split("import")[0]
]
"""Those that are no programs, but applications of the command line."""


@dataclass
class Step:
    """A command, and the lines that are printed until the next one."""

    command: str
    lines: list[str] = field(default_factory=list)


def transcript(example: str) -> list[Step]:
    """Read the terminal session that an example's header shows."""
    steps: list[Step] = []
    shown = False
    tree = ast.parse((ROOT / example).read_text(encoding="utf-8"))
    for line in (ast.get_docstring(tree, clean=False) or "").splitlines():
        if line.startswith("    $ "):
            steps.append(Step(line.removeprefix("    $ ")))
            shown = True
        elif shown and line.startswith("    "):
            steps[-1].lines.append(line.removeprefix("    "))
        elif line:
            shown = False
    return steps


def in_order(lines: list[str], promised: list[str]) -> bool:
    """Whether all lines are among the promised ones, in that order."""
    rest = iter(promised)
    return all(line in rest for line in lines)


@pytest.mark.parametrize("example", EXAMPLES)
def test_an_example_keeps_its_promise(example: str) -> None:
    steps = transcript(example)
    with Terminal() as terminal:
        server, endpoint = terminal.serve(
            *shlex.split(steps[0].command.replace(DEFAULT_ENDPOINT, ANY_PORT))[:-1]
        )
        assert [line.replace(endpoint, DEFAULT_ENDPOINT) for line in server.lines] == steps[0].lines
        for step in steps[1:]:
            printed = play(terminal, step, endpoint)
            assert sorted(line for _, line in printed) == sorted(step.lines), terminal.screen
            for program in terminal.programs:
                assert in_order([line for by, line in printed if by is program], step.lines), (
                    terminal.screen
                )
        while not all(client.ended for client in terminal.programs[1:]):
            assert terminal.read("end of a client")[1] is None, terminal.screen
        assert [client.close() for client in terminal.programs[1:]] == [0] * len(steps[1:])
        # what green_router serves finishes what it has begun and leaves; the other servers have no
        # end
        ours = example in SERVED or "from green_router import" in (
            ROOT / shlex.split(steps[0].command)[1]
        ).read_text(encoding="utf-8")
        assert server.close() == (0 if ours else -signal.SIGTERM)


def play(terminal: Terminal, step: Step, endpoint: str) -> list[tuple[Program, str]]:
    """Give a command, and return what is printed until as much as promised has come and the command
    has ended."""
    *words, last = shlex.split(step.command.replace(DEFAULT_ENDPOINT, endpoint))
    program = terminal.start(*words, *([last] if last != "&" else []))
    printed: list[tuple[Program, str]] = []
    while len(printed) < len(step.lines) or not (last == "&" or program.ended):
        by, line = terminal.read(f"line {len(printed) + 1} of {step}")
        if line is not None:
            printed.append((by, line))
        else:
            assert by.process.wait() == 0, terminal.screen
    return printed


def test_the_lock_service_survives_a_deadline(serve: Callable[..., RunningServer]) -> None:
    """Who has waited too long is told so; the lock goes to the next one that still waits."""
    lock = SimpleNamespace(**runpy.run_path(str(ROOT / "examples" / "lock_service.py")))
    hasty = serve(lock.handle_request, handler_timeout=0.05, on_error=lock.on_error)
    server = serve(lock.handle_request)
    assert server.ask(b"acquire door") == b"door is yours"
    assert hasty.ask(b"acquire door") == b"door is still taken"
    patient = server.client(zmq.DEALER)
    patient.send_multipart([b"", b"acquire door"])
    eventually(lambda: len(lock.waiting[b"door"]) == 2)
    assert server.ask(b"release door") == b"door is released"
    assert patient.recv_multipart()[1] == b"door is yours"
    assert server.ask(b"release door") == b"door is released"
    assert server.ask(b"acquire door") == b"door is yours"


@pytest.mark.parametrize("example", EXAMPLES)
def test_no_example_is_left_untested(example: str) -> None:
    steps = transcript(example)
    ways = (f"python {example} ", f"green-router serve {example}:handle_request ")
    assert any(way in step.command for step in steps for way in ways), (
        "its header does not show how to run it"
    )
    assert any(step.lines for step in steps if example in step.command), (
        "its header does not promise what it prints"
    )


@pytest.mark.parametrize("example", [example for example in EXAMPLES if example not in SERVED])
def test_the_endpoint_is_an_argument_with_a_default(example: str) -> None:
    source = (ROOT / example).read_text(encoding="utf-8")
    assert f'endpoint = sys.argv[1] if len(sys.argv) > 1 else "{DEFAULT_ENDPOINT}"' in source


def test_the_map_names_every_example() -> None:
    text = (ROOT / "examples" / "README.md").read_text(encoding="utf-8")
    assert [example for example in EXAMPLES if example.removeprefix("examples/") not in text] == []
