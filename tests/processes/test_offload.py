"""``serve --offload``: an engine of the service, in one process and in workers, which ends with
it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .conftest import Service, gone, processes_in

APPLICATION = """
import os
from gevent import monkey
from green_router import OffloadFailed, offload

@offload
def work(data):
    if data == b"crash":
        os._exit(3)
    return b"%d %d" % (os.getpid(), monkey.is_module_patched("socket"))

def handle_request(request):
    if request.data == b"here":
        return b"%d %d" % (os.getpid(), monkey.is_module_patched("socket"))
    return work(request.data)

def on_error(request, error):
    return str(error).encode()
"""


@pytest.mark.parametrize("workers", ["none", "1"])
def test_a_service(service: Callable[..., Service], workers: str) -> None:
    server = service(
        APPLICATION, "--workers", workers, "--offload", "processes:1", "--on-error", "app:on_error"
    )
    here, patched = map(int, server.ask(b"here").split())
    there, theirs = map(int, server.ask(b"there").split())
    assert (patched, theirs) == (1, 0)
    assert there != here
    failed = server.ask(b"crash")
    assert failed == b"work has no result: process %d, which had it, ended with exit code 3" % there
    assert int(server.ask(b"again").split()[0]) not in (there, here)
    server.stop()
    assert gone(processes_in(server.line.directory))
