"""``green-router proxy``: one address for clients, in front of servers on any machines, which
connect to it.

Rules of this file
  1. No code of an application runs here, and nothing is patched.
  2. Standard output has one line for each endpoint, with its real port, once all are bound;
     everything else is logging.
  3. What is wrong ends it with a sentence and a code, as ``serve`` does (commands/__init__.py).
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from ..errors import ConfigError, GreenRouterError
from ..settings import SERVICE, SETTINGS, Settings
from ..settings.access import names_callable
from .configuration import config_option
from .options import errors_of, set_values, settings_of

if TYPE_CHECKING:
    from ..proxy.service import ProxyService

OF_BOTH = (
    "max_message_bytes",
    "max_frames",
    "send_high_water_mark",
    "receive_high_water_mark",
    "grace",
    "linger",
    "backlog",
    "handshake_timeout",
    "tcp_keepalive_idle",
    "duplicate_routing_id",
    "descriptor_limit",
    "io_threads",
    "curve_secret_key",
    "authorized_keys",
    "require_curve",
    "ipc_mode",
)
"""Settings of a server that concern a proxy, on both of its sides."""

AROUND = ("control", "log_level", "log_format", "log_file")
"""Those of a service."""


@click.command("proxy", short_help="Pass requests to servers on other machines.")
@click.option(
    "--frontend",
    metavar="ENDPOINT",
    multiple=True,
    required=True,
    help="Where clients connect: tcp://*:5555; may be repeated.",
)
@click.option(
    "--backend",
    metavar="ENDPOINT",
    multiple=True,
    required=True,
    help="Where servers connect, serve --connect: tcp://*:5556; may be repeated.",
)
@click.option(
    "--round-robin",
    is_flag=True,
    help="Use libzmq's own steerable proxy: quicker, for servers of any kind; the next "
    "request goes to the next of them, and one that leaves loses what is on its way to it.",
)
@click.option(
    "--authorized-servers",
    metavar="DIR",
    help="Whose CURVE keys are let in as servers: a directory of key files, or * for every key; "
    "--authorized-keys says that of clients. [default: needed with curve_secret_key]",
)
@config_option("; those of a server alone do nothing here")
@click.option(
    "--check",
    is_flag=True,
    is_eager=True,
    help="Report everything that is wrong with the endpoints, and end.",
)
@settings_of({name: SERVICE[name] for name in AROUND})
@settings_of({name: SETTINGS[name] for name in OF_BOTH})
def command(
    frontend: tuple[str, ...],
    backend: tuple[str, ...],
    round_robin: bool,
    authorized_servers: str | None,
    check: bool,
    **settings: Any,
) -> None:
    """Pass the requests of clients to servers, and their replies back.

    Clients connect to --frontend as to any server. Servers connect to --backend by themselves, from
    any machine, and come and go while requests flow: each gets what it says it can take, the least
    busy one first, and nothing more once it has said goodbye. SIGTERM and SIGINT take no more
    requests, wait for what is in hand, and end; a second one ends at once.

    \b
    green-router proxy --frontend tcp://*:5555 --backend tcp://*:5556
    green-router serve app:handle_request --connect tcp://broker:5556
    green-router stats
    """
    context = click.get_current_context()
    found, errors = set_values(context), errors_of(context)
    of_both = {name: value for name, value in found.items() if name in OF_BOTH}
    values, of_servers = Settings(**of_both), _of_servers(of_both, authorized_servers)
    if check:
        _check(frontend, backend, values, of_servers, [*errors])
        return
    if errors:
        raise errors[0]
    from ..processes import logs

    log_file = found.get("log_file")
    try:
        logs.set_up(
            found.get("log_level", "info"), found.get("log_format", "text"), log_file, "proxy"
        )
    except OSError as error:
        raise logs.cannot_write(log_file, error) from None
    from ..proxy.service import ProxyService

    service = ProxyService(frontend, backend, round_robin, values, of_servers)
    service.run(found.get("control"), partial(_announce, service))


def _of_servers(of_both: dict[str, Any], authorized: str | None) -> Settings:
    """The settings of the side where servers connect. Clients' keys do not open it: whoever is
    there gets requests."""
    for option, value in (
        ("--authorized-keys", of_both.get("authorized_keys")),
        ("--authorized-servers", authorized),
    ):
        if value is not None and names_callable(value):
            raise ConfigError(
                option, value, "a directory of key files, or *: no code of an application runs here"
            )
    secured = of_both.get("curve_secret_key") is not None
    if secured != (authorized is not None):
        raise ConfigError(
            "--authorized-servers",
            authorized,
            "given where curve_secret_key is, and left out where it is not",
        )
    return Settings(**of_both | ({"authorized_keys": authorized} if secured else {}))


def _announce(service: ProxyService) -> None:
    for side, endpoints in (("clients", service.endpoints), ("servers", service.backend)):
        for endpoint in endpoints:
            click.echo(f"green-router proxy for {side} on {endpoint}")
    sys.stdout.flush()


def _check(
    frontend: tuple[str, ...],
    backend: tuple[str, ...],
    settings: Settings,
    of_servers: Settings,
    errors: list[GreenRouterError],
) -> None:
    from ..security.control import AccessControl
    from ..security.policy import Policy
    from ..sockets.context import make_context
    from ..sockets.router import Router

    for side in (settings, of_servers):
        try:
            policy = Policy(side)
            if policy.keys is not None:
                policy.keys.check()
        except GreenRouterError as error:
            errors.append(error)
    with make_context(settings) as context:
        router = Router(context, settings, access=AccessControl(Settings()))
        try:
            for endpoint in (*frontend, *backend):
                try:
                    router.bind(endpoint)
                except GreenRouterError as error:
                    errors.append(error)
        finally:
            router.close()
    for further in errors[1:]:
        click.ClickException(str(further)).show()
    if errors:
        raise errors[0]
    click.echo(
        f"nothing is wrong with {' '.join(frontend)} for clients, {' '.join(backend)} for servers"
    )
