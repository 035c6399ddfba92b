"""A worker process: started by exec, told what to do over its line, ended with its supervisor.

Rules of this file
  1. First the orders are read, then the standard library is patched, then the log is set up, then the application is
     loaded; only then is the supervisor told that the worker is ready.
  2. It ends when it is told to, or when its supervisor has ended: by itself, and where its loop is blocked by force.
  3. Fatal signals leave the stacks of all threads in a pipe that the supervisor reads.

What is said on the line, beside the work (dispatcher.py)
  by the supervisor  the orders, first and alone; ``("ping", n)``; ``("stop", seconds)``; ``("reopen",)`` the logs
  by the worker      ``("ready", endpoints, files)`` or ``("failed", code, arguments, files)``; ``("pong", n, snapshot)``;
                     ``("worn",)`` replace me; ``("bye", snapshot)``
"""
from __future__ import annotations

import _thread
import faulthandler
import marshal
import os
import select
import sys
from collections.abc import Callable
from time import sleep
from typing import Any

from .line import HEAD

FORCE_AFTER = 2.0
"""Seconds that a worker has to end by itself when its supervisor is gone."""

def main() -> None:
    """``python -m green_router.processes.worker LINE STACKS``: both are inherited descriptors."""
    line_fd, stacks_fd = map(int, sys.argv[1:3])
    for fd in (line_fd, stacks_fd):
        os.set_inheritable(fd, False)
    faulthandler.enable(os.fdopen(stacks_fd, "wb", buffering=0, closefd=False))
    orders = read_orders(line_fd)
    _thread.start_new_thread(_end_with_the_supervisor, (os.dup(line_fd), sleep, os._exit))
    if orders["patch"]:
        from gevent import monkey
        monkey.patch_all()
    from . import logs
    from .work import Work
    logs.set_up(orders["log_level"], orders["log_format"], orders["log_file"], f"worker {orders['slot']}", orders["slot"])
    Work(line_fd, orders).run()


def read_orders(fd: int) -> dict[str, Any]:
    """Read what this worker is to do. **Blocks** the thread."""
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as stream:
        (size,) = HEAD.unpack(_exactly(stream.read, HEAD.size))
        ((_, orders),) = marshal.loads(_exactly(stream.read, size))     # line.py, rule 3
    return orders       # type: ignore[no-any-return]


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise SystemExit("the supervisor ended before it said what to do")
        data += more
    return data


def _end_with_the_supervisor(fd: int, wait: Callable[[float], None], leave: Callable[[int], None]) -> None:
    """An OS thread. The other end of the line closes with the supervisor's process, also where our loop is blocked."""
    end = select.poll()
    end.register(fd, 0)
    end.poll()
    wait(FORCE_AFTER)
    leave(1)


if __name__ == "__main__":
    from green_router.processes.worker import main as run
    run()
