"""The compiled parts of the package, which are optional: each stands beside the same in Python.

Rules of this file
  1. Where one was not built, and where GREEN_ROUTER_PURE asks for it, Python serves.
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

ASKED_FOR_PURE = os.environ.get("GREEN_ROUTER_PURE", "0") not in ("", "0")


def compiled(name: str) -> Any:
    """Return the compiled module of that name within the package, or None."""
    if ASKED_FOR_PURE:
        return None
    try:
        return import_module(f"{__package__}.{name}")
    except ImportError:
        return None
