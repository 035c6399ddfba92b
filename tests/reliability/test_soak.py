"""The soak, in short: that it passes, that its report says all that it has to, and that it finds
what is wrong."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from processes_apart import FULL, LIMIT_SECONDS

import green_router
from green_router.messages.ledger import EVENTS, FATES

HERE = Path(__file__).parent
SEED = 7
MINUTES = 3.0 if FULL else 0.25
DEADLINE = 60 * MINUTES + 2.5 * LIMIT_SECONDS
"""Seconds: beside the run itself there are the first round, what each part has begun when it ends,
and the rest."""


def soak(minutes: float, planted: str = "") -> tuple[int, str]:
    """Run it in a process of its own; returns its exit code and its report.

    Args:
        planted: Python that is run when ``soak`` is imported, before it begins.
    """
    code = (
        f"import sys; sys.path.insert(0, {str(HERE)!r}); import soak; "
        f"{planted or 'pass'}; soak.main()"
    )
    environment = os.environ | {"PYTHONPATH": str(Path(green_router.__file__).parents[1])}
    process = subprocess.Popen(
        [sys.executable, "-c", code, "--minutes", str(minutes), "--seed", str(SEED)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        report, _ = process.communicate(timeout=DEADLINE)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)  # with its servers and clients
            process.communicate()
    return process.returncode, report


def count(report: str, what: str) -> int:
    """How many of these it tells of; 0 if it does not."""
    found = re.search(rf"^ +{re.escape(what)}:? +([\d,]+)", report, re.MULTILINE)
    return int(found[1].replace(",", "")) if found else 0


def test_a_short_soak_passes_and_tells_all(measured):
    code, report = soak(MINUTES)
    assert code == 0 and "WRONG" not in report and report.rstrip().endswith("passed"), report
    for name in (*FATES, *EVENTS):
        assert re.search(rf"\b{name} [\d,]+", report), (name, report)
    for name in (
        "latency in the server: p50",
        "p99.9",
        "latency of steady clients, p50",
        "latency of steady clients, p99",
        "leaks: memory",
        "descriptors",
        "table entries",
        "wake-ups",
    ):
        assert name in report, (name, report)
    for what in (
        "requests",
        "steady clients: requests",
        "clients that interleave: requests",
        "random messages, at the most",
        "attacks on the port",
        "servers that were stopped under load",
        "servers that were stopped: answered",
        "services with workers",
        "services with workers: answered",
    ):
        assert count(report, what) > 0, (what, report)
    leaks = re.search(r"leaks: memory (\S+ MB)", report)
    measured(
        f"{60 * MINUTES:.0f} s of everything at once",
        f"{count(report, 'requests'):,} requests, {leaks and leaks[1]}",
    )


def test_a_soak_finds_what_is_wrong():
    """A steady client that dies, with what it said; memory above the bound; and exit code 1."""
    code, report = soak(0.02, "soak.STEADY_WORDS = ['size 100']; soak.LEAKED['resident'] = -10**9")
    assert code == 1 and report.rstrip().endswith("failed"), report
    assert re.search(
        r"WRONG: steady: .*load\.py has ended with 1: .*ValueError: could not convert", report
    ), report
    assert "WRONG: memory has grown: resident by" in report, report
