"""The command line: ``green-router VERB``, a file or a package a verb.

Rules of this file
  1. A verb's file is imported when the verb is asked for, and imports little at its top, so that
     ``--help`` is quick and ``serve`` can patch the standard library before much of it is in use.
  2. A verb raises; only here does an error become a sentence and an exit code.

A verb that is added gets its row in VERBS and a file with a click command named ``command``.
"""

from __future__ import annotations

import importlib
import platform
from typing import Any

import click

from ..errors import ApplicationError, BindError, ConfigError, GreenRouterError

EXIT_FAILURE = 1
"""No reply came, or something went wrong that the other codes do not name."""
EXIT_CONFIGURATION = 2
"""An option or a setting is wrong; click's own code for wrong usage is the same."""
EXIT_BIND = 3
"""An endpoint cannot be served."""
EXIT_APPLICATION = 4
"""The application cannot be loaded."""

EXITS: dict[type[GreenRouterError], int] = {
    ConfigError: EXIT_CONFIGURATION,
    BindError: EXIT_BIND,
    ApplicationError: EXIT_APPLICATION,
    GreenRouterError: EXIT_FAILURE,
}
"""The exit code of each error: that of the first class here which it belongs to."""

VERBS = {
    "serve": f"{__name__}.serve",
    "proxy": f"{__name__}.proxy",
    "request": f"{__name__}.request",
    "demo": f"{__name__}.demo.command",
    "stats": f"{__name__}.stats",
    "keygen": f"{__name__}.keygen",
    "settings": f"{__name__}.settings",
    "bench": f"{__name__}.bench.command",
}
"""Where each verb lives, in the order of ``--help``."""


class Verbs(click.Group):
    """A group whose commands are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        command: click.Command = importlib.import_module(VERBS[cmd_name]).command
        return command

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except GreenRouterError as error:
            click.ClickException(str(error)).show()
            ctx.exit(next(code for kind, code in EXITS.items() if isinstance(error, kind)))


def _print_versions(ctx: click.Context, _: click.Parameter, wanted: bool) -> None:
    if not wanted or ctx.resilient_parsing:
        return
    import gevent
    import zmq

    from .. import __version__
    from ..sockets.frames import IN_USE

    rows = {
        "green_router": __version__,
        "pyzmq": zmq.pyzmq_version(),
        "libzmq": zmq.zmq_version(),
        "gevent": gevent.__version__,
        "Python": platform.python_version(),
        "frames": IN_USE,
    }
    for name, version in rows.items():
        click.echo(f"{name:<13}{version}")
    ctx.exit()


@click.group(
    cls=Verbs,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog=(
        f"Exit codes: {EXIT_FAILURE} no reply, or a failure; {EXIT_CONFIGURATION} a wrong option "
        f"or setting; {EXIT_BIND} an endpoint that cannot be served; {EXIT_APPLICATION} an "
        "application that cannot be loaded."
    ),
)
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_print_versions,
    help="Show the versions of green_router and of what it stands on.",
)
def main() -> None:
    """Request/reply servers on a ZeroMQ ROUTER, with gevent.

    See it work on this machine, without any configuration:  green-router demo
    """
