"""``green-router settings``: every setting, as a table: the one that the documentation is made from.

Rules of this file
  1. It prints what settings.py declares, and knows no setting by name.
"""
from __future__ import annotations

import click

from .configuration import PREFIX, ROWS
from .options import default_of


@click.command("settings", short_help="Show every setting.")
@click.option("--markdown", is_flag=True, help="As a table in Markdown.")
def command(markdown: bool) -> None:
    """Show every setting: its name, its default, and what it does.

    The name is that of the keyword in Server(...) and in a TOML file; with dashes it is an option of serve, in capitals
    after GREEN_ROUTER_ an environment variable.
    """
    rows = list(ROWS.values())
    if markdown:
        click.echo("| setting | environment | value | default | |\n| --- | --- | --- | --- | --- |")
        for row in rows:
            cells = (f"`{row.name}`", f"`{PREFIX}{row.name.upper()}`", row.rule, default_of(row).removeprefix("default: "),
                     row.doc)
            click.echo("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
        return
    for row in rows:
        click.secho(row.name, bold=True, nl=False)
        click.echo(f"  {default_of(row)}; {row.rule}")
        click.echo(click.wrap_text(row.doc, width=100, initial_indent="    ", subsequent_indent="    "))
