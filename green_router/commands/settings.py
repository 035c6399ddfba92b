"""``green-router settings``: every setting, as a text or as docs/settings.md.

Rules of this file
  1. It prints what settings/ declares, and knows no setting by name. A test compares the document
     with what this prints.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable
from typing import Any

import click

from ..settings import SERVICE, SETTINGS, Setting
from .options import PREFIX, ROWS

DOCUMENT = f"""\
# Settings

Made by `green-router settings --markdown`; `green-router settings` prints the same for a terminal.

Each can be said in four places: as a keyword of `Server(...)` (the server's alone), as an option
of `green-router serve`, as an environment variable, and as a line of a TOML file that `--config`
names. `max_in_flight` is `max_in_flight=100`, `--max-in-flight 100`, `{PREFIX}MAX_IN_FLIGHT=100`
and `max_in_flight = 100`. An option goes before the environment, that before the file, and the
file before the default. `green-router serve --check` reports everything that is wrong.

Durations are seconds. A size on the command line or in a text may end in KiB, MiB or GiB, a list
is divided by spaces or commas, and `none` is written where that is a value. Beside some names
stand further ones of the option. `application` is no option, but the argument of the command.
"""


INDENT = "    "


@click.command("settings", short_help="Show every setting.")
@click.option("--markdown", is_flag=True, help="As a document in Markdown: docs/settings.md.")
def command(markdown: bool) -> None:
    """Show every setting: its name, its default, and what it does.

    The name is that of the keyword in Server(...) and in a TOML file; with dashes it is an option
    of serve, in capitals after GREEN_ROUTER_ an environment variable. What follows it are further
    names of the option.
    """
    if markdown:
        click.echo(DOCUMENT)
        click.echo(
            "## The service\n\n" + _table(row for row in SERVICE.values() if row.name in ROWS)
        )
        click.echo(
            "## The server\n\n" + _table(row for row in SETTINGS.values() if row.name in ROWS),
            nl=False,
        )
        return
    for row in ROWS.values():
        click.secho(" ".join([row.name, *row.flags]), bold=True, nl=False)
        click.echo(f"  {row.shown()}; {row.rule}")
        click.echo(
            # An option's name has hyphens, and is copied whole.
            textwrap.fill(
                row.doc,
                100,
                initial_indent=INDENT,
                subsequent_indent=INDENT,
                break_on_hyphens=False,
            )
        )


def _named(row: Setting[Any]) -> str:
    return " ".join(f"`{name}`" for name in (row.name, *row.flags))


def _table(rows: Iterable[Setting[Any]]) -> str:
    lines = ["| setting | default | value | what it does |", "| --- | --- | --- | --- |"]
    for row in rows:
        default = (
            row.shown().removeprefix("default: ")
            if row.default is not None
            else f"none: {row.absent}"
        )
        rule = row.rule.removesuffix(f", or None ({row.absent})") + (
            ", or none" if row.optional else ""
        )
        lines.append(
            "| "
            + " | ".join(cell.replace("|", "\\|") for cell in (_named(row), default, rule, row.doc))
            + " |"
        )
    return "".join(f"{line}\n" for line in lines)
