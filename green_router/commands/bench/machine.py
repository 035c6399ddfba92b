"""The room that this machine has: cores, memory and descriptors.

Rules of this file
  1. What cannot be is refused before anything is started, with what it would need and what there
     is.
  2. What is needed is an estimate, and said to be one. Where the system does not say what there is,
     nothing is refused.
"""

from __future__ import annotations

import os
import platform
from contextlib import suppress
from pathlib import Path

import click

from ...sockets.tuning import raise_descriptor_limit

REQUEST_BYTES = 8192
"""Memory of a request on its way, beside its data: a handler's greenlet, task or entry in a pool,
and what the client remembers of it. green_router takes 7.5 KiB while the handler sleeps."""

COPIES = 3
"""How often its data is in memory at the same time: on its way there, in the handler, on its way
back."""

CLIENT_BYTES = 65_536
"""Memory of a connection, at both of its ends."""

OTHER_DESCRIPTORS = 64
"""Those that a process has beside its clients'."""


def cores() -> int:
    """How many cores this process may use: containers and taskset give it fewer than the machine
    has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def processor() -> str:
    """Return the name of the processor."""
    with suppress(OSError):
        for line in (
            Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
        ):
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int | None:
    """How much memory is available, to the machine and to this container; None where the system
    does not say."""
    found = []
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        found.append(
            1024 * int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
        )
    with suppress(OSError, ValueError):  # "max" is no number, and no limit
        limit, used = (
            int(Path("/sys/fs/cgroup", name).read_text(encoding="ascii"))
            for name in ("memory.max", "memory.current")
        )
        found.append(limit - used)
    return min(found, default=None)


def refuse_what_has_no_room(
    clients: int, in_flight: int, size_bytes: int, connections: int
) -> None:
    """Look whether a load can be.

    Args:
        clients: how many.
        in_flight: requests of each that are on their way.
        size_bytes: of each request.
        connections: how many a client has, at the most.
    Raises:
        click.UsageError: it cannot; the text says why.
    """
    needed, available = (
        clients * (CLIENT_BYTES + in_flight * (REQUEST_BYTES + COPIES * size_bytes)),
        memory_bytes(),
    )
    if available is not None and needed > available:
        raise click.UsageError(
            f"{clients:,} clients, each with {in_flight:,} requests of {size_bytes:,} bytes in "
            f"flight, need about {_gib(needed)} of memory, and {_gib(available)} are available: "
            "choose fewer or smaller ones."
        )
    descriptors, limit = clients * connections + OTHER_DESCRIPTORS, raise_descriptor_limit()
    each = "one connection" if connections == 1 else f"{connections} connections"
    if descriptors > limit:
        raise click.UsageError(
            f"{clients:,} clients with {each} each need about {descriptors:,} descriptors in a "
            f"server, and a process may have {limit:,} here (ulimit -Hn): that is enough for "
            f"{max(0, limit - OTHER_DESCRIPTORS) // connections:,} clients."
        )


def _gib(size_bytes: int) -> str:
    return f"{size_bytes / 1024**3:,.1f} GiB"
