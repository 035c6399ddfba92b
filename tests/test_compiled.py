"""The compiled parts, which are optional: all of them serve, or none."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from green_router.compiled import ASKED_FOR_PURE, compiled
from green_router.testing import DEADLINE

PARTS = "messages._fields", "serving._polling", "sockets._frames"

SAY = f"""
from green_router.compiled import compiled
from green_router.messages.fields import Fields
from green_router.serving.polling import poll_pending
from green_router.sockets.frames import IN_USE
built = [compiled(name) is not None for name in {PARTS}]
print(built, Fields.__name__, poll_pending.__name__, IN_USE)
"""


@pytest.mark.parametrize("name", PARTS)
def test_one_was_built_with_the_others(name: str) -> None:
    assert (compiled(name) is None) == (compiled(PARTS[-1]) is None)


def test_what_there_is_not() -> None:
    assert compiled("nowhere") is None


@pytest.mark.parametrize("value", ["", "0", "1", "yes"])
def test_python_serves_where_that_is_asked_for(value: str) -> None:
    asked = value not in ("", "0")
    done = subprocess.run(
        [sys.executable, "-c", SAY],
        env=os.environ | {"GREEN_ROUTER_PURE": value},
        check=True,
        capture_output=True,
        text=True,
        timeout=4 * DEADLINE,
    ).stdout.strip()
    if asked:
        pure = "PureFields poll_pending_pure pure (GREEN_ROUTER_PURE)"
        assert done == f"{[False] * 3} {pure}"
    elif not ASKED_FOR_PURE and compiled(PARTS[0]) is not None:
        assert done.startswith(f"{[True] * 3} CompiledFields poll_pending ")
