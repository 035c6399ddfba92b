"""A worker process: started by exec, told what to do over its channel, ended with its supervisor.

Rules of this file
  1. First the boot configuration is read, then the standard library is patched, then the log is set
     up, then the application is loaded; only then is the supervisor told that the worker is ready.
  2. It ends when it is told to, or with its supervisor. On Linux the kernel sees to that, which
     needs neither our loop nor the interpreter; elsewhere the end of the channel is noticed, and
     where the loop is blocked a thread uses force.
  3. Fatal signals leave the stacks of all threads in a file that the supervisor reads (stacks.py).
  4. It runs as a program, by its path. Modules are looked for where the supervisor looks for them;
     so until the configuration is read, only the standard library is imported, and nothing in this
     directory may be named like a part of it.
"""

from __future__ import annotations

import _thread
import faulthandler
import marshal
import os
import select
import signal
import sys
from collections.abc import Callable
from time import sleep
from typing import Any

FORCE_AFTER = 2.0
"""Seconds that a worker has to end by itself when its supervisor is gone."""

HEAD_BYTES = 8
"""What goes before a batch: its length (stream.py, HEAD)."""

PR_SET_PDEATHSIG = 1
"""prctl(2): a signal for this process when its parent ends."""

NOT_YET = (signal.SIGHUP, signal.SIGUSR1, signal.SIGTTIN, signal.SIGTTOU)
"""Signals that are the supervisor's, but reach all processes when a service manager sends them: a
worker must survive them from the start."""


def main() -> None:
    """``python .../main.py CHANNEL STACKS``: both are inherited descriptors."""
    for number in NOT_YET:
        signal.signal(number, lambda number, frame: None)
    channel_fd, stacks_fd = map(int, sys.argv[1:3])
    faulthandler.enable(os.fdopen(stacks_fd, "wb", buffering=0, closefd=False))
    config = read_config(channel_fd)
    for fd in (channel_fd, stacks_fd, *(fd for _, fd in config["endpoints"] or ())):
        os.set_inheritable(fd, False)  # what the application starts must not keep them open
    sys.path[:] = config["path"]
    if not die_with(config["supervisor"]):
        end = select.poll()  # made here: gevent may patch it
        end.register(os.dup(channel_fd), 0)
        _thread.start_new_thread(force_end, (end.poll, sleep, os._exit))
    from green_router.processes.source import patches

    if config["patch"] or patches(config["patch"], config["application"]):
        from gevent import monkey

        monkey.patch_all()
    from green_router.processes.worker.runtime import Runtime

    Runtime(channel_fd, stacks_fd, config).run()


def read_config(fd: int) -> dict[str, Any]:
    """Read what this worker is to do. **Blocks** the thread."""
    with os.fdopen(fd, "rb", buffering=0, closefd=False) as stream:
        size = int.from_bytes(_exactly(stream.read, HEAD_BYTES), "little")
        # stream.py, rule 3; protocol.boot.
        ((_, config),) = marshal.loads(_exactly(stream.read, size))
    return config  # type: ignore[no-any-return]


def _exactly(read: Callable[[int], bytes], size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = read(size - len(data))
        if not more:
            raise SystemExit("the supervisor ended before it said what to do")
        data += more
    return data


def die_with(supervisor: int) -> bool:
    """Let the kernel kill this process when its parent ends; True if it does.

    Source: prctl(2), PR_SET_PDEATHSIG.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        import ctypes

        asked: bool = ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL)) == 0
    # A Python without ctypes, a system that forbids it.
    except (ImportError, OSError, AttributeError):
        return False
    if os.getppid() != supervisor:  # it ended before that
        os._exit(1)
    return asked


def force_end(
    end: Callable[[], object], wait: Callable[[float], None], leave: Callable[[int], None]
) -> None:
    """An OS thread. The other end of the channel closes with the supervisor's process, also where
    our loop is blocked."""
    end()
    wait(FORCE_AFTER)
    leave(1)


if __name__ == "__main__":
    main()
