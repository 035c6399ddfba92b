"""What the tests of the serving process share: a server, and workers in the hand of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from scripted_workers import Rig


@pytest.fixture
def rig() -> Iterator[Callable[..., Rig]]:
    """``rig(window=, retries=, explains=, **settings)``."""
    with ExitStack() as stack:

        def make(
            window: int = 128, retries: int = 0, explains: bool = False, **settings: Any
        ) -> Rig:
            return Rig(stack, window, retries, explains, settings)

        yield make
