"""``green-router serve --check``: everything that is wrong, at once.

Rules of this file
  1. One error hides no other: each part is tried on its own.
  2. What is tried leaves nothing behind, and takes nothing from a service that runs: a port or a path that is served is
     no error.
"""
from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from ..errors import ConfigError, GreenRouterError
from ..settings import Service, Settings
from .configuration import Configuration


def check(found: Configuration) -> None:
    """Try all of it, and say that nothing is wrong.

    Raises:
        GreenRouterError: the first thing that is; the others have been shown.
    """
    errors: list[GreenRouterError] = [*found.errors]
    service = Service(**found.service)
    settings = Settings(**{name: value for name, value in found.server.items() if name != "on_error"})
    if service.patch:
        from gevent import monkey
        monkey.patch_all()

    def attempt(step: Callable[..., Any], *arguments: Any) -> None:
        try:
            step(*arguments)
        except GreenRouterError as error:
            errors.append(error)

    attempt(_check_application, service.application)
    if found.server.get("on_error") is not None:
        attempt(_check_application, found.server["on_error"])
    bind = _bind_in_workers if service.workers is not None and service.dispatch == "direct" else _bind_here
    for endpoint in service.bind:
        if not _is_served(endpoint):
            attempt(bind, _on_any_port(endpoint), settings)
    if service.log_file is not None:
        attempt(_check_log_file, service.log_file)
    if service.control is not None:
        from ..processes import control
        attempt(control.check, service.control)

    for further in errors[1:]:
        click.ClickException(str(further)).show()
    if errors:
        raise errors[0]     # the group shows it, and ends with its code
    click.echo(f"nothing is wrong with {service.application}, {service.workers or 'no'} workers, {' '.join(service.bind)}")


def _check_application(target: str | None) -> None:
    if target is None:
        raise ConfigError("MODULE:CALLABLE", None, "given")
    from .application import load
    load(target)


def _bind_here(endpoint: str, settings: Settings) -> None:
    from ..serving.sockets import Router, make_context
    with make_context(settings) as context:
        router = Router(context, settings)
        try:
            router.bind(endpoint)
        finally:
            router.close()


def _bind_in_workers(endpoint: str, settings: Settings) -> None:
    from ..processes.listeners import Listeners
    Listeners([endpoint], settings.backlog).close()


def _is_served(endpoint: str) -> bool:
    from ..processes.control import answering
    transport, _, path = endpoint.partition("://")
    return transport == "ipc" and path not in ("", "*") and answering("\0" + path[1:] if path.startswith("@") else path)


def _on_any_port(endpoint: str) -> str:
    return endpoint.rpartition(":")[0] + ":0" if endpoint.startswith("tcp://") and endpoint.count(":") > 1 else endpoint


def _check_log_file(path: str) -> None:
    from ..processes import logs
    try:
        logs.check(path)
    except OSError as error:
        raise logs.cannot_write(path, error) from None
