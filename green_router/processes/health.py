"""Whether the loops of the workers turn.

Rules of this file
  1. A worker is asked by its line, and answers in its hub: an answer shows that its loop turns. One that has nothing in
     hand is not asked, so that idle means no wake-ups in any process.
  2. What was asked and not answered stands: asking again would make a late answer look like a quick one.
"""
from __future__ import annotations

from collections.abc import Callable
from time import monotonic

import gevent

from .child import Child
from .staff import Staff

ASKED_PER_TIMEOUT = 3
"""How often, in each worker_timeout, a worker is asked."""

ANSWERS_WITHIN = 0.5
"""Seconds that a worker has to answer before its statistics are those that it gave last."""

ASKED = ("ready", "leaving")
"""States in which a worker has a loop that should turn."""


def watch(staff: Staff, timeout: float, hung: Callable[[Child], None]) -> None:
    """A greenlet, for ever. Ask the workers that have something in hand.

    Args:
        timeout: seconds without an answer after which ``hung`` is called, in this greenlet.
    """
    while True:
        gevent.sleep(timeout / ASKED_PER_TIMEOUT)
        for child in staff.children:
            if child.state not in ASKED:
                continue
            if child.asked_at is not None and monotonic() - child.asked_at >= timeout:
                hung(child)
            elif child.place is None or child.place.busy:
                child.ask()


def answering(staff: Staff) -> set[Child]:
    """Ask everybody; returns those that answer in time, or are too young to be asked. **Blocks** the greenlet."""
    asked = staff.children
    for child in asked:
        if child.state in ASKED:
            child.ask()
    until = monotonic() + ANSWERS_WITHIN
    return {child for child in asked if child.state == "booting" or child.answers(max(0.0, until - monotonic()))}
