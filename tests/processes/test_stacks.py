"""What is left of a process that crashes: why, and where each of its threads was, however many
there are."""

from __future__ import annotations

import os
from collections.abc import Callable

from green_router.processes import stacks
from green_router.processes.stacks import CURRENT, STACKS_BYTES, shortened

from .conftest import DISPATCH, Service

CROWDED = """
import faulthandler
from gevent.monkey import get_original
start, lock = get_original("_thread", "start_new_thread"), get_original("_thread", "allocate_lock")
gate = lock()
gate.acquire()
reached = []

def a_function_with_a_name_that_takes_its_place_in_the_stacks(depth):
    if depth:
        a_function_with_a_name_that_takes_its_place_in_the_stacks(depth - 1)
    reached.append(depth)
    gate.acquire()

for _ in range(90):
    start(a_function_with_a_name_that_takes_its_place_in_the_stacks, (40,))

def handle_request(request):
    if request.data == b"crash":
        while len(reached) < 90:
            pass
        faulthandler._sigsegv()
    return request.data
"""


@DISPATCH
def test_a_crash_with_many_stacks_is_told_at_once(
    service: Callable[..., Service], dispatch: str
) -> None:
    """They do not fit into a pipe. The thread that crashed is named, although faulthandler begins
    with others."""
    server = service(CROWDED, "--workers", "1", "--dispatch", dispatch, "--worker-timeout", "30")
    (pid,) = server.workers()
    server.client().send(b"crash")
    server.running.err.until(f"[{pid}] was killed by SIGSEGV")
    assert server.ask(b"x") == b"x"
    log = "\n".join(server.stop())
    assert "characters left out" in log
    assert "in handle_request" in log


def test_what_was_written_is_read_from_the_start() -> None:
    descriptor = stacks.make()
    try:
        assert stacks.read(descriptor) == ""
        os.write(descriptor, b"one\n")
        assert stacks.read(descriptor) == "one"
        os.write(descriptor, b"two \xff\n")
        assert stacks.read(descriptor) == "one\ntwo \\xff"
    finally:
        os.close(descriptor)


def test_the_reason_and_the_thread_that_crashed_are_kept() -> None:
    reason, others, crashed = "Fatal Python error: ", "x" * STACKS_BYTES, f"{CURRENT} here"
    for text in (reason + others + crashed + others, reason + crashed + others + others):
        short = shortened(text)
        assert short.startswith(reason)
        assert crashed in short
        assert len(short) < STACKS_BYTES + 100
        assert len(text) - len(short) < int(short.partition("... ")[2].split()[0])
    assert shortened(reason + crashed) == reason + crashed
    assert len(shortened(reason + 2 * others)) < STACKS_BYTES + 100
