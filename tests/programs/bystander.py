"""Somebody who has nothing to do with the server, and tells how late this machine is for everybody.

Usage: bystander.py

On each processor it sleeps for a millisecond, again and again. Each line of standard input is a
question; the answer, a line of JSON, is by how many seconds it woke too late at the worst since the
last question: because others had the processor, or because a virtual machine's processor stood
still.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

PAUSE_SECONDS = 0.001

worst: dict[int, float] = {}


def look_on(processor: int) -> None:
    """THREAD."""
    os.sched_setaffinity(0, {processor})  # of this thread alone (sched_setaffinity(2))
    while True:
        begun = time.monotonic()
        time.sleep(PAUSE_SECONDS)
        worst[processor] = max(worst.get(processor, 0.0), time.monotonic() - begun - PAUSE_SECONDS)


for processor in os.sched_getaffinity(0):
    threading.Thread(target=look_on, args=(processor,), daemon=True).start()
print("ready", flush=True)
for _ in sys.stdin:
    print(json.dumps(max(worst.values(), default=0.0)), flush=True)
    worst.clear()
