"""The handler when nobody asks any more: its reply leaves when the device has it.

Rules of this file
  1. The replies are those of app.py, from the same device.
"""

from __future__ import annotations

from typing import Any

from device import Device, Job

device = Device()


def handle_request(request: Any) -> Job:
    """Return the future reply."""
    return device.start(request.data)
