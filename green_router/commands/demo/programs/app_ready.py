"""The handler of app.py and one line more: whoever makes a reply ready says so.

Rules of this file
  1. It is app.py, but for the decorator and that line; a test compares them.
"""

from __future__ import annotations

from typing import Any

from device import Device, Job

from green_router import until_ready

device = Device()
jobs: dict[Any, Job] = {}


@until_ready
def handle_request(request: Any) -> tuple[bytes, bytes] | None:
    """Reply when the device has the reply."""
    client_id, data = request
    if request not in jobs:
        jobs[request] = device.start(data)
        jobs[request].add_done_callback(lambda _: handle_request.ready(request))
    if not jobs[request].done():
        return None
    return client_id, jobs.pop(request).result()
