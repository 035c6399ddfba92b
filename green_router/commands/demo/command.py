"""The command: it measures, prints the table, and draws the conclusion.

Rules of this file
  1. Whatever ends the demo (its end, an error, Ctrl-C, SIGTERM, SIGHUP) ends every process that it
     started: measured/subprocesses.py keeps this rule.
"""

from __future__ import annotations

import click

from ..measured.subprocesses import leave_on_signals
from ..options import duration_option, number_option
from ..terminal import WIDTH, progress
from .conclusion import NEXT, conclusion
from .machine import Machine
from .measure import CONTENDERS, Plan, measure_all
from .report import doubts, report


@click.command("demo", short_help="Compare the poll loop with green_router, on this machine.")
@duration_option("--seconds", 15.0, "How long to measure, in all.")
@number_option(
    "--clients",
    least=1,
    most=500,
    default=100,
    help="How many REQ clients are many; few are 5 of them.",
)
def command(seconds: float, clients: int) -> None:
    """Serve the same clients by the poll loop, then by green_router, and compare.

    The clients are plain REQ and DEALER sockets, and do not change. Replies become ready at exact
    moments, 20 to 50 ms after the request, seconds after it for those that are pending, and what is
    measured is how late the client has them and what the server takes of the processor. Nothing
    needs to be configured; every socket is local.
    """
    leave_on_signals()
    plan = Plan(seconds, clients)
    with progress(seconds) as shown:
        machine = Machine(shown)
        results = measure_all(plan, machine)
    report(plan, CONTENDERS, results)
    for sentence in (*doubts(plan, machine, results), conclusion(plan, CONTENDERS, results)):
        click.echo("\n" + click.wrap_text(sentence, WIDTH))
    click.echo(f"\n{NEXT}")
