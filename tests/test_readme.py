"""The README does what it says, and docs/asyncio.md and offload.md.

Rules of this file
  1. A python block is a file, ``app.py``. The console block that follows it is a session in that
     file's directory: the command lines are run, and what they print must be what stands below
     them.
  2. ``&`` starts a server. The endpoint of the README becomes a port of the system's choice, and
     the real one from there on.
  3. Tables are compared with what they tell of: the settings, the fates, the commands.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import LIMIT_SECONDS

from green_router import testing
from green_router.commands import VERBS
from green_router.messages.ledger import FATES
from green_router.settings import MIB, SETTINGS
from green_router.settings.kinds import Seconds, Size

pytestmark = pytest.mark.examples

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")

ENDPOINT = "tcp://127.0.0.1:5555"
ANY_PORT = "tcp://127.0.0.1:*"

LOGGED = "import logging; logging.basicConfig(level=logging.INFO, format='%(message)s')\n"
"""What goes before an app: a line that a server then prints, "serving on", ends with its
endpoint."""

SCRIPT = Path(sys.executable).with_name("green-router")
PROGRAMS = {
    "python": [sys.executable],
    "green-router": [str(SCRIPT)] if SCRIPT.exists() else [sys.executable, "-m", "green_router"],
}

SHOWN = README + "".join(
    (ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("asyncio.md", "offload.md")
)

STORIES = re.findall(r"```python\n(.*?)```\n+```console\n(.*?)```", SHOWN, re.DOTALL)


def start(directory: Path, command: str) -> subprocess.Popen[str]:
    program, *arguments = shlex.split(command)
    if arguments[0] == "serve":
        arguments += ["--bind", ANY_PORT]
    return subprocess.Popen(
        [*PROGRAMS[program], *arguments],
        cwd=directory,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=os.environ | {"PYTHONWARNINGS": "error"},
    )


def test_every_python_block_is_run() -> None:
    assert len(STORIES) == SHOWN.count("```python\n") > 0


@pytest.mark.parametrize(("app", "session"), STORIES, ids=range(1, len(STORIES) + 1))
def test_a_block_does_what_stands_below_it(app: str, session: str, tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(LOGGED + app.replace(ENDPOINT, ANY_PORT), encoding="utf-8")
    endpoint = ENDPOINT
    servers = []
    printed = []
    try:
        for line in session.splitlines():
            command = line.removeprefix("$ ").replace(ENDPOINT, endpoint)
            if line.startswith("$ ") and line.endswith(" &"):
                printed.append(line)
                server = start(tmp_path, command.removesuffix(" &"))
                servers.append(server)
                assert server.stdout is not None
                said = []
                for text in server.stdout:
                    said.append(text)
                    if "serving on" in text:
                        endpoint = text.split()[-1]
                        break
                else:
                    pytest.fail("".join([line, "\n", *said]))
                if f"{line}\ngreen-router serving on " in session:
                    printed.append(f"green-router serving on {ENDPOINT}")
            elif line.startswith("$ "):
                printed.append(line)
                program = start(tmp_path, command)
                printed += program.communicate()[0].splitlines()
    finally:
        for server in servers:
            server.terminate()
            try:
                server.communicate(timeout=LIMIT_SECONDS)
            except subprocess.TimeoutExpired:
                server.kill()
                server.communicate()
                raise
    assert printed == session.splitlines()


def test_the_test_that_is_shown_passes() -> None:
    (shown,) = re.findall(r"```py\n(.*?)```", README, re.DOTALL)
    names: dict[str, Any] = {}
    exec(shown, names)
    names["test_it_answers"]()


def test_the_names_for_tests_are_there() -> None:
    section = README.partition("### Tests of your own")[2].partition("```")[0]
    for name in re.findall(r"`(\w+)`", section):
        assert hasattr(testing, name) or hasattr(testing.RunningServer, name), name


def test_the_diff_is_that_of_the_examples() -> None:
    (diff,) = re.findall(r"```diff\n(.*?)```", README, re.DOTALL)
    for sign, example in (("-", "original_loop.py"), ("+", "drop_in.py")):
        lines = "".join(
            line[1:] for line in diff.splitlines(keepends=True) if line.startswith(sign)
        )
        assert lines in (ROOT / "examples" / example).read_text(encoding="utf-8")


def test_the_settings_have_the_defaults_that_are_shown() -> None:
    section = README.partition("\n## Settings\n")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| `(\w+)` \| `?([^|`]+?)`? \|", section, re.MULTILINE))
    assert shown
    for name, text in shown.items():
        setting = SETTINGS[name]
        default = setting.default
        if default is None:
            assert text == "none", name
        elif isinstance(setting.kind, Size):
            assert text == f"{default / MIB:g} MiB", name
        else:
            assert text == (
                f"{default:g}" if isinstance(setting.kind, Seconds) else str(default)
            ), name


def test_every_fate_and_every_command_is_named() -> None:
    section = README.partition("\n## Limits and fates\n")[2]
    assert tuple(re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)) == FATES
    assert re.findall(r"^\| `green-router (\w+)", README, re.MULTILINE) == list(VERBS)


def test_what_is_linked_is_there() -> None:
    for target in re.findall(r"\]\(([^)#]+)", README):
        assert "://" in target or (ROOT / target).exists(), target
