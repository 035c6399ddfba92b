"""What the tests of offload share: the engines of a file, ended with it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from children import children

from green_router.offload.engines import ENGINES


@pytest.fixture(scope="module")
def engines() -> Iterator[None]:
    """Those of a file: its processes are started once."""
    yield
    ENGINES.close()
    assert children() == []
