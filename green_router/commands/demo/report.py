"""The table, and whether to believe it.

Rules of this file
  1. A figure that the system does not tell is shown as "-".
  2. A row says in which direction it is better, and what difference is none; the conclusion has no
     opinion of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import click

from ..terminal import table
from .machine import Machine
from .measure import PENDING_REQUESTS, STALLED_REQUESTS, Contender, Load, Measured, Plan, percentile

ENOUGH = 50
"""Replies, without which a p99 is no more than the worst."""


@dataclass(frozen=True, slots=True)
class Row:
    """A row of figures, the less the better.

    Attributes:
        load: under which load, as it is called in a sentence.
        name: what was measured.
        value: takes it from what was measured; None where the system does not say.
        form: how it is written.
        noise: a smaller difference is none.
    """

    load: str
    name: str
    value: Callable[[Measured], float | None]
    form: str
    noise: float

    def cell(self, measured: Measured) -> str:
        """A figure, as it is written."""
        value = self.value(measured)
        return "-" if value is None else self.form.format(value)


def rows(plan: Plan) -> list[Row]:
    """Return the rows of the table.

    What clients at work cost is told by the reply: where replies are late, there are fewer of them.
    Of those that are pending there are as many with each server, in the same time.
    """
    pending = f"{PENDING_REQUESTS:,} pending"
    return [
        *_late(_clients(plan.few), lambda measured: measured.few),
        _cost_of_a_reply(_clients(plan.few), lambda measured: measured.few),
        *_late(_clients(plan.clients), lambda measured: measured.many),
        _cost_of_a_reply(_clients(plan.clients), lambda measured: measured.many),
        *_late(pending, lambda measured: measured.pending),
        Row(
            pending,
            "begun after p99",
            lambda measured: 1000 * percentile(measured.pending.begun, 0.99),
            "{:.1f} ms",
            0.5,
        ),
        Row(pending, "CPU", lambda measured: measured.pending.cost.cpu_percent, "{:.1f} %", 0.5),
        *_late("one reads nothing", lambda measured: measured.others),
        Row("one reads nothing", "its replies lost", lambda measured: measured.lost, "{:,}", 0),
        Row("idle", "CPU", lambda measured: measured.idle.cpu_percent, "{:.1f} %", 0.5),
        Row("idle", "wake-ups/s", lambda measured: measured.idle.wakeups_per_second, "{:,.0f}", 5),
    ]


def _late(name: str, load: Callable[[Measured], Load]) -> list[Row]:
    return [
        Row(
            name,
            "late p50",
            lambda measured: 1000 * percentile(load(measured).late, 0.50),
            "{:.1f} ms",
            0.1,
        ),
        Row(
            name,
            "late p99",
            lambda measured: 1000 * percentile(load(measured).late, 0.99),
            "{:.1f} ms",
            0.5,
        ),
    ]


def _cost_of_a_reply(name: str, load: Callable[[Measured], Load]) -> Row:
    def value(measured: Measured) -> float | None:
        seconds = load(measured).cost.cpu_seconds
        return None if seconds is None else 1e6 * seconds / len(load(measured).late)

    return Row(name, "CPU a reply", value, "{:.0f} us", 10)


def _clients(number: int) -> str:
    return f"{number} client{'s' * (number > 1)}"


def report(plan: Plan, contenders: Sequence[Contender], results: Sequence[Measured]) -> None:
    """Print what was measured."""
    cells: list[list[str]] = []
    load = ""
    for row in rows(plan):
        if row.load != load:
            cells += [[""] * (1 + len(results))] * bool(load)
            load = row.load
        cells.append([f"{row.load}: {row.name}", *map(row.cell, results)])
    table(["", *(contender.heading for contender in contenders)], cells)
    shortest, longest = plan.pending
    click.echo(f"""\
begun after   from when a client sends a request to when the handler has it
late          from when a reply is ready to when its client has it
CPU           of the server: time for each reply, or percent of one processor
clients       at work, each a REQ: a reply takes 20 to 50 ms
pending       requests of DEALERs, sent at once: a reply takes {shortest:.1f} to {longest:.1f} s
reads nothing a DEALER that has asked for {STALLED_REQUESTS:,} replies; late are the others'""")
    if results[0].idle.cpu_seconds is None:
        click.echo('"-"           this system has no /proc, so CPU and wake-ups were not measured')


def doubts(plan: Plan, machine: Machine, results: Sequence[Measured]) -> list[str]:
    """Why the figures are not to be trusted, if so: a sentence each."""
    said = []
    if reasons := list(machine.doubts()):
        said.append(f"These figures are doubtful, the machine is busy: {' and '.join(reasons)}.")
    if min(len(measured.few.late) for measured in results) < ENOUGH:
        said.append(
            f"With fewer than {ENOUGH} replies to {_clients(plan.few)}, p99 is about the worst of "
            "them: measure for longer (--seconds)."
        )
    return said
