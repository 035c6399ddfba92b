"""A handler as it was written for the loop: falsy means "not ready, ask me again".

Rules of this file
  1. It knows nothing of who calls it: loop.py does, and ``green-router serve app.py:handle_request
     --until-ready``.
"""

from __future__ import annotations

from typing import Any

from device import Device, Job

device = Device()
jobs: dict[Any, Job] = {}


def handle_request(request: Any) -> tuple[bytes, bytes] | None:
    """Reply when the device has the reply."""
    client_id, data = request
    if request not in jobs:
        jobs[request] = device.start(data)
    if not jobs[request].done():
        return None
    return client_id, jobs.pop(request).result()
