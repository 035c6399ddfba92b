"""The clients of ``green-router bench`` from outside: the load, and the processes that make it.

Rules of this file
  1. Each measurement has processes of its own: what is left of one (memory, a client's threads, a
     process that died) touches no other.
  2. Nothing is waited for without a limit. A process that dies, or does not answer within it, fails
     the measurement, and the bench goes on.

What happens in such a process is in load.py.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...sockets.tuning import raise_descriptor_limit
from ..measured.subprocesses import Lines, Printed, child, ending
from .load import CONNECTING, WARM_UP, Order
from .machine import OTHER_DESCRIPTORS, cores
from .strategies import Strategy, environment

PROGRAM = str(Path(__file__).with_name("load.py"))

MAX_PROCESSES = 4
"""Load processes at the most, and half of the cores: the server has the other half. One process
drives more than one server core answers; only a server of several processes is more than a match
for it."""

DESCRIPTORS_PER_CLIENT = 4
"""A client has two sockets at the most, and each a TCP connection and the descriptor by which it
wakes its owner."""

AT_ONCE = 100
"""Clients that connect at the same time, of all processes together: as many as libzmq lets wait."""

PATIENCE = 5.0
"""Seconds without any reply, beyond the handler's own time, after which those that are missing are
lost."""

DRAIN = 60.0
"""Seconds that the last replies may take beyond that, if they come at all."""

RAMP = 0.1
"""Seconds, beyond the handler's own time, from the first requests to those that count: all are sent
at once, which is not how they come later."""

LATE = 30.0
"""Seconds that a process may take beyond what its work takes: it starts, and may have to wait for a
core."""


class Failed(Exception):
    """A strategy served, but not as it must; the text says what was wrong."""


@dataclass(frozen=True, slots=True)
class Load:
    """The work of the clients.

    Attributes:
        clients: how many.
        in_flight: requests of each that are on their way.
        size_bytes: of each request.
        seconds: how long is counted.
        sleep_us: microseconds that the handler sleeps.
        patience: seconds without any reply, beyond that, after which those that are missing are
            lost.
    """

    clients: int
    in_flight: int
    size_bytes: int
    seconds: float
    sleep_us: int
    patience: float = PATIENCE

    @property
    def reply_seconds(self) -> float:
        """How long a reply takes the handler."""
        return self.sleep_us / 1e6

    @property
    def lost_after(self) -> float:
        """Seconds without any reply after which those that are missing are lost."""
        return self.patience + 2 * self.reply_seconds

    @property
    def drain(self) -> float:
        """Seconds that the last replies may take, in all."""
        return DRAIN + 2 * self.reply_seconds

    @property
    def processes(self) -> int:
        """How many processes the clients are shared among."""
        needed = -(
            -self.clients
            * DESCRIPTORS_PER_CLIENT
            // max(1, raise_descriptor_limit() - OTHER_DESCRIPTORS)
        )
        return max(needed, min(self.clients, MAX_PROCESSES, cores() // 2), 1)

    def orders(self, processes: int, endpoint: str, program: str) -> list[Order]:
        """Divide the load among so many processes."""
        shares = [
            range(self.clients * n // processes, self.clients * (n + 1) // processes)
            for n in range(processes)
        ]
        return [
            Order(
                endpoint,
                share.start,
                len(share),
                max(1, AT_ONCE // processes),
                self.in_flight,
                self.size_bytes,
                self.seconds,
                self.lost_after,
                self.drain,
                program,
            )
            for share in shares
        ]


class Clients:
    """All clients, in their processes.

    Args:
        stack: when it is left, they end.
        load: what they do.
        strategy: what they talk to.
    """

    def __init__(self, stack: ExitStack, load: Load, strategy: Strategy) -> None:
        self._load = load
        self._program = str(strategy.program) if strategy.own_client else ""
        self._processes = [_Process(stack, load.reply_seconds) for _ in range(load.processes)]

    def prepare(self, endpoint: str) -> None:
        """Connect and warm everything up. **Blocks** until that is done.

        Raises:
            Failed: a client could not connect, or a reply was not what it must be.
        """
        load, processes = self._load, self._processes
        for process, order in zip(
            processes, load.orders(len(processes), endpoint, self._program), strict=True
        ):
            process.tell(json.dumps(asdict(order)))
        connecting = CONNECTING * (load.clients / AT_ONCE + 1)
        self._check(connecting + WARM_UP)

    def go(self) -> float:
        """Begin; return from when on it counts, by the monotonic clock."""
        begin = time.monotonic() + RAMP + self._load.reply_seconds
        for process in self._processes:
            process.tell(f"go {int(begin * 1e9)}")
        return begin

    def run(self) -> bool:
        """True if all processes run."""
        return all(process.runs() for process in self._processes)

    def results(self) -> list[dict[str, Any]]:
        """Collect what the processes counted. **Blocks** until all replies have come.

        Raises:
            Failed: a reply was not what it must be.
        """
        return self._check(0.0)

    def _check(self, seconds: float) -> list[dict[str, Any]]:
        """The answer of each, which has so long to work before the last replies come."""
        limit = time.monotonic() + seconds + self._load.lost_after + self._load.drain + LATE
        # Those that have ended first: one may have died, and the others are then at work for as
        # long as they were told.
        answers = [process.answer(limit) for process in sorted(self._processes, key=_Process.runs)]
        for answer in answers:
            if "error" in answer:
                raise Failed(answer["error"])
        bad = {
            what: sum(answer.get(what, 0) for answer in answers)
            for what in ("wrong", "lost", "unasked")
        }
        if any(bad.values()):
            raise Failed(
                "replies: " + ", ".join(f"{count} {what}" for what, count in bad.items() if count)
            )
        return answers


class _Process:
    """One of them."""

    def __init__(self, stack: ExitStack, reply_seconds: float) -> None:
        self._errors = stack.enter_context(Printed())
        self._process = stack.enter_context(
            child(
                sys.executable,
                PROGRAM,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._errors,
                env=environment(reply_seconds),
            )
        )
        assert self._process.stdin
        self._input, self._lines = self._process.stdin.fileno(), Lines(self._process)

    def runs(self) -> bool:
        return self._process.poll() is None

    def tell(self, line: str) -> None:
        try:
            os.write(self._input, f"{line}\n".encode())
        except BrokenPipeError:
            raise self._died() from None

    def answer(self, limit: float) -> dict[str, Any]:
        """Return its next line. **Blocks** until that time, at the most (monotonic)."""
        try:
            line = self._lines.next(limit - time.monotonic())
        except TimeoutError:
            raise Failed("a load process did not answer in time") from None
        if line is None:
            raise self._died()
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _died(self) -> Failed:
        words = self._errors.last_words()
        return Failed(
            f"a load process {ending(self._process)}"
            + (f"; its last words: {words}" if words else "")
        )
