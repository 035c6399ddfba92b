"""The keywords of ``Server(...)``: those of its settings, and seen by a type checker.

Rules of this file
  1. mypy runs where it is installed (``tox -e types``), with the cache that a check of the package
     has left.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

import pytest
import zmq

from green_router import Server
from green_router.messages.envelope import EnvelopePolicy
from green_router.messages.request import BytesLike
from green_router.settings import SETTINGS, ServerKeywords, Setting
from green_router.settings.access import Accounts, KeyFile, Keys, Mode, Networks
from green_router.settings.kinds import (
    Body,
    Choice,
    Context,
    Count,
    Function,
    Policy,
    RoutingId,
    Seconds,
    Size,
    Switch,
    Text,
)
from green_router.settings.secret_key import SecretKey

ROOT = Path(__file__).parents[2]

KEYWORDS = get_type_hints(ServerKeywords)

TYPES: dict[type[Any], Any] = {
    Count: int,
    Size: int,
    Seconds: float,
    Policy: str | EnvelopePolicy,
    Body: BytesLike | list[BytesLike] | tuple[BytesLike, ...],
    KeyFile: str | os.PathLike[str] | bytes | SecretKey,
    Keys: str | os.PathLike[str] | Callable[[str, str], Any],
    Networks: list[str] | tuple[str, ...],
    Mode: int,
    Switch: bool,
    Accounts: list[str | int] | list[str] | list[int] | tuple[str | int, ...],
    Text: str,
    RoutingId: bytes | bytearray | memoryview,
    Context: zmq.Context[Any],
}
"""What each kind takes in a program, as checkers see it; a choice is one of its words."""


def test_the_keywords_are_the_settings() -> None:
    assert list(KEYWORDS) == list(SETTINGS)


@pytest.mark.parametrize("row", SETTINGS.values(), ids=lambda row: row.name)
def test_a_keyword_has_the_type_that_its_setting_takes(row: Setting[Any]) -> None:
    hint = KEYWORDS[row.name]
    assert (type(None) in get_args(hint)) == row.optional
    if isinstance(row.kind, Choice):
        assert get_args(hint) == row.kind.choices
    elif isinstance(row.kind, Function):
        assert get_origin(get_args(hint)[0]) is Callable
    else:
        expected = TYPES[type(row.kind)]
        assert hint == (expected | None if row.optional else expected)


def test_the_hints_of_a_server_can_be_evaluated() -> None:
    assert "settings" in get_type_hints(Server.__init__)


WRONG = """\
from green_router import Server

Server(print, max_in_flight=5, grace=1, overload="refuse", on_error=lambda request, error: b"")
Server(print, max_inflight=5)
Server(print, grace="long")
Server(print, overload="drop")
"""


def test_a_type_checker_sees_a_wrong_keyword_and_a_wrong_type(tmp_path: Path) -> None:
    api = pytest.importorskip("mypy.api")
    snippet = tmp_path / "snippet.py"
    snippet.write_text(WRONG)
    found, failed, _ = api.run(
        [
            str(snippet),
            "--config-file",
            str(ROOT / "setup.cfg"),
            "--follow-imports=silent",
            "--no-error-summary",
            "--cache-dir",
            str(ROOT / ".mypy_cache"),
        ]
    )
    seen = [
        re.sub(r".*snippet\.py:", "", line) for line in found.splitlines() if ": error: " in line
    ]
    assert [line.split(":")[0] for line in seen] == ["4", "5", "6"], (found, failed)
    assert "max_inflight" in seen[0]
    assert '"grace" to "Server" has incompatible type "str"' in seen[1]
    assert "Literal['pause', 'refuse']" in seen[2]
