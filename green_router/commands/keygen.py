"""``green-router keygen``: CURVE key pairs as files.

Rules of this file
  1. It says which files it has made and what each is for; no key is ever printed.
"""

from __future__ import annotations

import click

from ..errors import ConfigError
from ..security.certificates import make_pairs


@click.command("keygen", short_help="Make CURVE key pairs.")
@click.argument("directory", metavar="DIR")
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--metadata",
    metavar="NAME=VALUE",
    multiple=True,
    help="Written into each file; may be repeated. Of the "
    "files of --authorized-keys, user_id and role are what request.user_id and request.role say.",
)
def command(directory: str, names: tuple[str, ...], metadata: tuple[str, ...]) -> None:
    """Make a CURVE key pair for each NAME in DIR: NAME.key, which is public, and NAME.key_secret,
    which only its owner may read. Without names, one for a server and one for a client. No file is
    overwritten.

    \b
    green-router keygen keys
    green-router keygen keys alice bob --metadata role=admin
    """
    known: dict[str, str] = {}
    for text in metadata:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError("--metadata", text, "NAME=VALUE")
        known[name] = value
    for path in make_pairs(directory, list(names or ("server", "client")), known):
        click.echo(path)
    click.echo(
        "serve --curve-secret-key takes the .key_secret of the server; --authorized-keys takes a "
        "directory with the .key of each client.\n"
        "A client needs its own .key_secret and the server's .key.",
        err=True,
    )
