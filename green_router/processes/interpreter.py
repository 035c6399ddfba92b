"""Tunes the Python interpreter for serving: its garbage collector, and the turns of threads.

Rules of this file
  1. What the import of the application has left (modules, classes, tables, models) lives as long as
     the process: the collector need not look at it again. A full collection looks at everything,
     and nothing is served meanwhile.
  2. A thread that waits for the interpreter gets it after the switch interval, 5 ms in Python:
     a server beside a thread that computes is late by as much each time that it wakes up, and so is
     a thread that makes replies ready beside a server that is busy. It is set before the
     application is loaded, which may set another.
  3. Both are done in processes that ``green-router serve`` has made, never in somebody's program.

Measured: with an application of a million objects a full collection stops the loop for 0.18 s;
frozen, for 1 us. A request makes hardly any cycles: with 1,000 in flight that sleep, the collector
ran 7 times for 15,000 requests, which is 0.14 us for each; so its thresholds stay Python's, unless
the handler's own objects ask for others. An echo beside a thread that computes without end has a
p50 of 5.4 ms at an interval of 5 ms, 1.3 at 1 ms and 0.8 at 0.5 ms; the thread loses 6 to 13 %.
"""

from __future__ import annotations

import gc
import sys


def share_among_threads(switch_interval: float | None) -> None:
    """Set after what time a thread that waits gets the interpreter from one that computes.

    Args:
        switch_interval: in seconds; None for Python's default.
    Source: the standard library's sys.setswitchinterval.
    """
    if switch_interval is not None:
        sys.setswitchinterval(switch_interval)


def settle(freeze: bool, threshold: int | None) -> None:
    """Collect what loading has left over, and set the collector up for serving.

    Args:
        freeze: whether what is there now is left out of all further collections.
        threshold: how many objects may be made, less those that are gone, before the youngest are
            looked at; 0 for never, None for Python's default.
    Source: the standard library's gc.freeze and gc.set_threshold.
    """
    if freeze:
        gc.collect()
        gc.freeze()
    if threshold is not None:
        gc.set_threshold(threshold, *gc.get_threshold()[1:])
