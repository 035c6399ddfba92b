"""``green-router serve``: an application behind a ROUTER, until a signal ends it.

Rules of this file
  1. The standard library is patched first, then logging is set up, then the application is loaded; only then is
     anything bound, so that nobody can connect to what cannot serve. With workers, each of them does so, and this
     process is left as it is.
  2. Standard output has one line for each endpoint, with its real port, once it is served; everything else is logging.
  3. How to serve, to drain and to stop is the Server's business, and with workers the Supervisor's.
"""
from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable
from typing import Any

import click

from ..errors import ConfigError, GreenRouterError
from ..settings import Service, Settings
from .configuration import Configuration, gather
from .options import ERRORS, given, server_settings, service_settings

LOADER = "green_router.commands.application:load"
"""Who loads the application, in a worker too."""


@click.command("serve", short_help="Serve an application.")
@click.argument("application", metavar="MODULE:CALLABLE", required=False)
@click.option("--config", metavar="FILE", help="A TOML file with settings, under their names with underscores.")
@click.option("--check", is_flag=True, is_eager=True, help="Report everything that is wrong with the settings, the "
              "endpoints and the application, and end.")
@service_settings
@server_settings
def command(application: str | None, config: str | None, check: bool, **settings: Any) -> None:
    """Serve MODULE:CALLABLE, or path/file.py:CALLABLE.

    The callable is called with each request, in a greenlet of its own; what it returns is the reply. The standard
    library is patched by gevent before the application is loaded, so that its blocking calls let other requests run.
    SIGTERM and SIGINT (Ctrl-C) finish what was begun and end; a second one ends at once.

    With --workers, the handler runs in so many processes: SIGHUP replaces them one by one by new ones that load the
    application again, SIGTTIN and SIGTTOU change their number.

    A setting that is not on the command line is looked for in the environment (GREEN_ROUTER_WORKERS=4), then in --config.

    \b
    green-router serve app:handle_request
    green-router serve app.py:handle_request --until-ready --bind tcp://*:5555 --bind ipc:///tmp/app
    green-router serve app:handle_request --workers 4
    """
    found = gather(given(settings), os.environ, config)
    found.errors += click.get_current_context().meta.get(ERRORS, [])
    application = application or found.values.get("application")
    if application is None:
        raise click.UsageError("Missing argument 'MODULE:CALLABLE'.")
    if check:
        _check(application, found)
        return
    if found.errors:
        raise found.errors[0]
    service = Service(**found.service)
    if service.reload and service.workers is None:
        found.values["workers"] = 1
    if "workers" in found.values and found.values["workers"] is not None:
        _supervise(application, service, found)
    else:
        _serve(application, service, found.server)


def _serve(application: str, service: Service, settings: dict[str, Any]) -> None:
    """The handler runs in this process."""
    if service.patch:
        from gevent import monkey
        monkey.patch_all()
    _set_up_log(service, None)

    import gevent

    from .. import Server, until_ready
    from ..processes import logs
    from ..processes.notify import notify
    from .application import load
    handler = load(application)
    if settings.get("on_error") is not None:
        settings["on_error"] = load(settings["on_error"])
    server = Server(until_ready(handler) if service.until_ready else handler, **settings)
    server.bind(*service.bind)
    server.start()
    loop = gevent.get_hub().loop
    signal.signal(signal.SIGUSR1, lambda number, frame: loop.run_callback_threadsafe(gevent.spawn, logs.reopen))
    notify("READY=1", f"STATUS=serving on {' '.join(server.endpoints)}")
    # A greenlet runs when serve_forever waits, and then signals are handled: who reads a line may signal at once.
    gevent.spawn(_announce, server.endpoints)
    server.serve_forever()


def _supervise(application: str, service: Service, found: Configuration) -> None:
    """It runs in others."""
    _set_up_log(service, "supervisor")
    from ..processes.supervisor import Supervisor
    Supervisor(application, LOADER, found.service, found.server, _announce).run()


def _set_up_log(service: Service, who: str | None) -> None:
    from ..processes import logs
    try:
        logs.set_up(service.log_level, service.log_format, service.log_file, who)
    except OSError as error:
        raise ConfigError("log_file", service.log_file, f"a file that can be written ({error.strerror})") from None


def _check(application: str, found: Configuration) -> None:
    """Report all that is wrong, and end with the code of the first."""
    errors: list[GreenRouterError] = [*found.errors]
    service = Service(**found.service)
    settings = Settings(**{name: value for name, value in found.server.items() if name != "on_error"})
    if service.patch:
        from gevent import monkey
        monkey.patch_all()
    from ..serving.sockets import Router, make_context
    from .application import load
    with make_context(settings) as context:
        for endpoint in service.bind:
            router = Router(context, settings)
            try:
                router.bind(_on_any_port(endpoint))
            except GreenRouterError as error:
                errors.append(error)
            finally:
                router.close()
    for target in (application, found.server.get("on_error")):
        try:
            if target is not None:
                load(target)
        except GreenRouterError as error:
            errors.append(error)
    for further in errors[1:]:
        click.ClickException(str(further)).show()
    if errors:
        raise errors[0]     # the group shows it, and ends with its code
    click.echo(f"nothing is wrong with {application}, {service.workers or 'no'} workers, {' '.join(service.bind)}")


def _on_any_port(endpoint: str) -> str:
    """The endpoint with another port, so that a service that runs already is no error."""
    return endpoint.rpartition(":")[0] + ":0" if endpoint.startswith("tcp://") and endpoint.count(":") > 1 else endpoint


def _announce(endpoints: Iterable[str]) -> None:
    for endpoint in endpoints:
        click.echo(f"green-router serving on {endpoint}")
    sys.stdout.flush()
