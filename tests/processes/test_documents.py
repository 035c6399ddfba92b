"""docs/settings.md and docs/workers.md are true.

Rules of this file
  1. A document that is made is compared with what makes it.
  2. A console block is a session in a directory of its own, with the blocks before it as its files:
     the python block that stands last is ``app.py``, a toml block ``service.toml``. Its commands
     are run, one after the other, and what they print must be what stands below them, but for
     numbers.
  3. ``&`` starts a service. The endpoint of the document becomes a port of the system's choice;
     ``$!`` is its pid.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import COMMAND, CommandLine, Running

DOCS = Path(__file__).parents[2] / "docs"
WORKERS = (DOCS / "workers.md").read_text(encoding="utf-8")

ENDPOINT = "tcp://127.0.0.1:5555"

BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", WORKERS, re.DOTALL | re.MULTILINE)


def stories() -> Iterator[tuple[str, str, str]]:
    """(app.py, service.toml, session) of each console block."""
    files = {"python": "", "toml": ""}
    for kind, text in BLOCKS:
        if kind == "console":
            yield files["python"], files["toml"], text
        files[kind] = text


STORIES = list(stories())


def masked(text: str) -> list[str]:
    """Without numbers, and without what they shift."""
    lines = [re.sub(r"\d[\d.,:T+-]*( (ms|s|min)\b)?", "N", line) for line in text.splitlines()]
    return [" ".join(line.split()) for line in lines if line.strip(" ─")]


def test_the_settings_are_those_that_are_declared(command_line: CommandLine) -> None:
    """To renew it: ``green-router settings --markdown > docs/settings.md``."""
    assert command_line.run("settings", "--markdown").stdout.decode() == (
        DOCS / "settings.md"
    ).read_text(encoding="utf-8")


def test_there_is_something_to_run() -> None:
    kinds = [kind for kind, _ in BLOCKS]
    assert set(kinds) == {"python", "toml", "console"}
    assert kinds.count("console") >= 7


@pytest.mark.parametrize(("app", "settings", "session"), STORIES, ids=range(1, len(STORIES) + 1))
def test_a_session_goes_as_it_is_shown(
    command_line: CommandLine, app: str, settings: str, session: str
) -> None:
    command_line.write("app.py", app)
    command_line.write("service.toml", settings)
    services: list[Running] = []
    endpoint, printed = ENDPOINT, ""
    try:
        for line in session.splitlines():
            if not line.startswith("$ "):
                continue
            printed += f"{line}\n"
            command = line.removeprefix("$ ")
            if command.endswith(" &"):
                program, *arguments = command.removesuffix(" &").split()
                assert program == "green-router"
                services.append(command_line.start(*arguments, "--bind", "tcp://127.0.0.1:0"))
                endpoint = services[-1].endpoint()
                printed += f"green-router serving on {ENDPOINT}\n"
            else:
                command = command.replace(ENDPOINT, endpoint)
                if services:
                    command = command.replace("$!", str(services[-1].process.pid))
                done = subprocess.run(
                    ["bash", "-c", f'green-router() {{ {" ".join(COMMAND)} "$@"; }}\n{command}'],
                    cwd=command_line.directory,
                    env=command_line.env,
                    capture_output=True,
                    text=True,
                    timeout=60,
                    check=False,
                )
                assert done.stderr == ""
                printed += (
                    done.stdout.replace(endpoint, ENDPOINT).rstrip("\n") + "\n"
                    if done.stdout
                    else ""
                )
    finally:
        for service in services:
            service.process.terminate()
            assert service.ends() == 0
    assert masked(printed) == masked(session)


def test_what_is_linked_is_there() -> None:
    for name in ("workers.md", "settings.md", "scaling.md"):
        for target in re.findall(r"\]\(([^)#]+)\)", (DOCS / name).read_text(encoding="utf-8")):
            assert "://" in target or (DOCS / target).exists(), target
