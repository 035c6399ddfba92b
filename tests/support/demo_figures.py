"""Figures of the demo that nobody has measured.

Rules of this file
  1. No process, no clock: what is made here is only looked at.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from green_router.commands.demo.machine import Machine
from green_router.commands.demo.measure import Load, Measured, Plan
from green_router.commands.measured.cost import Cost
from green_router.commands.terminal import progress

PLAN = Plan(15, 100)


def measured(late: float, cpu: float | None, lost: int = 0, replies: int = 100) -> Measured:
    """Alike under each load."""
    cost = Cost(1.0, cpu, None if cpu is None else 0)
    load = Load([late] * replies, [0.001], cost)
    return Measured(load, load, load, lost, load, cost)


@contextmanager
def quiet() -> Iterator[Machine]:
    """A machine on which nothing has happened yet."""
    with progress(1) as shown:
        yield Machine(shown)
