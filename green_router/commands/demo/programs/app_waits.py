"""The handler when nobody needs to ask again: its reply leaves when the device has it.

Rules of this file
  1. The replies are those of app.py, from the same device.
"""
from __future__ import annotations

from concurrent.futures import Future
from typing import Any

from device import Device

device = Device()


def handle_request(request: Any) -> Future[bytes]:
    """Return the future reply."""
    future: Future[bytes] = Future()
    device.start(request.data, future.set_result)
    return future
