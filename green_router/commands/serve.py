"""``green-router serve``: an application behind a ROUTER, until a signal ends it.

Rules of this file
  1. The standard library is patched first, then logging is set up, then the application is loaded;
     only then is anything bound, so that nobody can connect to what cannot serve. With workers,
     each of them does so, and this process is left as it is.
  2. Standard output has one line for each endpoint, with its real port, once it is served, and for
     each proxy; everything else is logging.
  3. How to serve, to drain and to stop is the Server's business (processes/single.py), and with
     workers the Supervisor's.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import click

from ..processes.pid_file import PidFile
from ..processes.source import patches
from ..settings import SERVICE, SETTINGS, Service
from .configuration import Configuration, config_option, configuration
from .options import settings_of

LOADER = "green_router.commands.application:load"
"""Who loads the application, in a worker too."""


@click.command("serve", short_help="Serve an application.")
@config_option()
@click.option(
    "--check",
    "--check-config",
    "check",
    is_flag=True,
    is_eager=True,
    help="Report everything that is wrong with the settings, the endpoints and the application, "
    "and end.",
)
@settings_of(SERVICE)
@settings_of(SETTINGS)
def command(check: bool, **settings: Any) -> None:
    """Serve MODULE:CALLABLE, or path/file.py:CALLABLE.

    The callable is called with each request, in a greenlet of its own; what it returns is the
    reply. The standard library is patched by gevent before the application is loaded, so that its
    blocking calls let other requests run. An async def is run by asyncio, and then nothing is
    patched. SIGTERM and SIGINT (Ctrl-C) finish what was begun and end; a second one ends at once.

    With --workers, the handler runs in so many processes: SIGHUP replaces them one by one by new
    ones that load the application again, SIGTTIN and SIGTTOU change their number.

    A setting that is not on the command line is looked for in the environment
    (GREEN_ROUTER_WORKERS=4), then in --config.

    \b
    green-router serve app:handle_request
    green-router serve app.py:handle_request --until-ready --bind tcp://*:5555 --bind ipc:///tmp/app
    green-router serve app:handle_request --workers 4
    green-router serve app:handle_request --connect tcp://broker:5556
    """
    found = configuration()
    service = Service(**found.service)
    supervised = service.workers is not None or service.reload
    if check:
        from .check import check as check_all

        check_all(found, service, supervised)
        return
    if found.errors:
        raise found.errors[0]
    if service.application is None:
        raise click.UsageError("Missing argument 'MODULE:CALLABLE'.")
    patch = patches(service.patch, service.application)
    with PidFile(service.pid_file) as pid_file:
        announce = partial(_announce, pid_file, service.connect or ())
        if supervised:
            _supervise(service, found, announce)
        else:
            _serve(service.application, service, found.server, patch, announce)


def _serve(
    application: str,
    service: Service,
    settings: dict[str, Any],
    patch: bool,
    announce: Callable[[Iterable[str]], None],
) -> None:
    """Serve with the handler in this process."""
    if patch:
        from gevent import monkey

        monkey.patch_all()
    _set_up_log(service, None)
    from .. import until_ready
    from ..offload.engines import ENGINES
    from ..processes import interpreter, single
    from ..settings.access import with_code
    from .application import load

    single.listen_to_signals()
    ENGINES.default = service.offload
    interpreter.share_among_threads(service.switch_interval)
    handler = load(application)
    interpreter.settle(service.gc_freeze, service.gc_threshold)
    single.serve(
        until_ready(handler) if service.until_ready else handler,
        service.bind,
        service.connect or (),
        with_code(settings, load),
        announce,
    )


def _supervise(
    service: Service, found: Configuration, announce: Callable[[Iterable[str]], None]
) -> None:
    """Serve with the handler in other processes."""
    _set_up_log(service, "supervisor")
    from ..processes.supervisor.supervisor import Supervisor

    Supervisor(LOADER, found.service, found.server, announce).run()


def _set_up_log(service: Service, who: str | None) -> None:
    from ..processes import logs

    try:
        logs.set_up(service.log_level, service.log_format, service.log_file, who)
    except OSError as error:
        raise logs.cannot_write(service.log_file, error) from None


def _announce(pid_file: PidFile, proxies: Iterable[str], endpoints: Iterable[str]) -> None:
    pid_file.write()
    for endpoint in endpoints:
        click.echo(f"green-router serving on {endpoint}")
    for proxy in proxies:
        click.echo(f"green-router serving clients of {proxy}")
    sys.stdout.flush()
