"""What the tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine


@pytest.fixture
def command_line(tmp_path: Path) -> Iterator[CommandLine]:
    """``green-router`` in a directory of the test's own."""
    line = CommandLine(tmp_path)
    yield line
    line.close()
