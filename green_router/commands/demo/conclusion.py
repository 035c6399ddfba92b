"""The sentence that the figures of a run give.

Rules of this file
  1. It is computed from the rows of the table, all of them, and says where the loop is better.
  2. A difference is one beyond the row's noise and a tenth of the loop's figure.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from .measure import Contender, Measured, Plan
from .report import Row, rows

ALIKE = 0.1
"""Of the loop's figure: a smaller difference is none."""


NEXT = """\
Next, your own handler as it is:
  green-router serve app.py:handle_request --until-ready
What little may change then, and what it gives: README.md, "From the loop".\
"""
"""What to type when the sentence was read."""


def conclusion(plan: Plan, contenders: Sequence[Contender], results: Sequence[Measured]) -> str:
    """Compare all with the first, in one sentence."""
    table = rows(plan)
    loop, *others = zip(contenders, results, strict=True)
    parts = [
        f"{contender.name} {_verdict(table, loop[1], measured)}" for contender, measured in others
    ]
    return f"Beside the loop, in this run: {'; '.join(parts)}{_widest(table, loop, others)}."


def _verdict(table: Sequence[Row], loop: Measured, measured: Measured) -> str:
    signs = [(row, _sign(row, loop, measured)) for row in table]
    compared = sum(sign is not None for _, sign in signs)
    better = sum(sign == -1 for _, sign in signs)
    worse: dict[str, list[str]] = {}
    for row, sign in signs:
        if sign == 1:
            worse.setdefault(row.load, []).append(row.name)
    where = "; ".join(f"{load}: {', '.join(names)}" for load, names in worse.items())
    count = sum(map(len, worse.values()))
    in_which = f"{count} ({where})" if worse else "none"
    return f"is better in {better} of {compared} figures and worse in {in_which}"


def _sign(row: Row, loop: Measured, measured: Measured) -> int | None:
    """-1 where it is better than the loop, 1 where it is worse, 0 where neither; None where the
    system does not say."""
    before, after = row.value(loop), row.value(measured)
    if before is None or after is None:
        return None
    if abs(after - before) <= max(row.noise, ALIKE * before):
        return 0
    return 1 if after > before else -1


def _widest(
    table: Sequence[Row],
    loop: tuple[Contender, Measured],
    others: Sequence[tuple[Contender, Measured]],
) -> str:
    """The widest difference, as the end of the sentence; nothing where there is none. Of what is 0
    or not, none is wide."""
    gaps = list(_gaps(table, loop[1], others))
    if not gaps:
        return ""
    _, row, contender, measured = max(gaps, key=lambda gap: gap[0])
    return (
        f"; the widest difference is {row.load}: {row.name}, {row.cell(measured)} "
        f"({contender.name}) instead of {row.cell(loop[1])}"
    )


def _gaps(
    table: Sequence[Row], loop: Measured, others: Sequence[tuple[Contender, Measured]]
) -> Iterator[tuple[float, Row, Contender, Measured]]:
    for contender, measured in others:
        for row in table:
            if row.noise and _sign(row, loop, measured):
                low, high = sorted((row.value(loop) or 0.0, row.value(measured) or 0.0))
                yield high / max(low, row.noise, 1.0), row, contender, measured
