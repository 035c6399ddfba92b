"""What the tests of security share: key pairs."""

from __future__ import annotations

from pathlib import Path

import pytest
from key_pairs import KeyPairs


@pytest.fixture
def keys(tmp_path: Path) -> KeyPairs:
    """A server's key pair, and an empty directory of authorized ones."""
    return KeyPairs(tmp_path)
