"""The display of commands that measure: a bar meanwhile, and a table at the end.

Rules of this file
  1. The table goes to standard output, all else to standard error, so that a pipe gets the table
     alone.
  2. Without a terminal there is no bar, but a line for each step; and nothing is wider than 80
     columns.
  3. rich is imported when it draws: ``--help`` imports this file too, and is quick.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

import click

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

WIDTH = 80
"""Columns, where no terminal says how many there are."""


class Progress(Protocol):
    """Shows what is going on, and how much of it is done."""

    def say(self, step: str) -> None:
        """Name the step that begins."""

    def advance(self, seconds: float) -> None:
        """Note that this much more is done."""

    def reach(self, seconds: float) -> None:
        """Note that this much is done, in all."""


class _Lines:
    """No terminal."""

    def say(self, step: str) -> None:
        click.echo(step, err=True)

    def advance(self, seconds: float) -> None:
        """There is no bar to move."""

    reach = advance


class _Bar:
    """A terminal."""

    def __init__(self, bar: Bar, seconds: float) -> None:
        self._bar, self._task = bar, bar.add_task("", total=seconds)

    def say(self, step: str) -> None:
        self._bar.update(self._task, description=step)

    def advance(self, seconds: float) -> None:
        self._bar.advance(self._task, seconds)

    def reach(self, seconds: float) -> None:
        self._bar.update(self._task, completed=seconds)


@contextmanager
def progress(seconds: float) -> Iterator[Progress]:
    """Show on standard error what goes on while the block runs.

    Args:
        seconds: how much there is to do; the bar is full when that much has been advanced.
    """
    if not sys.stderr.isatty():
        yield _Lines()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=24),
        TimeRemainingColumn(compact=True),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, seconds)


def table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table on standard output: the first column to the left, the others to the right.

    Args:
        headings: one a column; a line break in one is kept.
        rows: as many cells each; a row of empty cells is a gap.
    """
    from rich import box
    from rich.console import Console
    from rich.table import Table

    shown = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    for number, heading in enumerate(headings):
        shown.add_column(
            heading, justify="right" if number else "left", vertical="bottom", no_wrap=True
        )
    for row in rows:
        shown.add_row(*row)
    Console(width=None if sys.stdout.isatty() else WIDTH, highlight=False).print(shown)
