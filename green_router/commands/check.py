"""``green-router serve --check``: everything that is wrong, at once.

Rules of this file
  1. One error hides no other: each part is tried on its own.
  2. What is tried leaves nothing behind, and takes nothing from anybody. No client can connect to
     what is tried, or it would lose its requests; and nothing is tried at a path where a service
     may be, or may come to be meanwhile.
  3. A place where somebody listens is no error, but said: most likely it is the service whose
     settings these are. So is a socket that a service manager will pass: it has not passed it to
     who tries the settings by hand.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from ..errors import BindError, ConfigError, GreenRouterError
from ..processes.pid_file import check as check_pid_file
from ..processes.source import patches
from ..settings import Service, Settings
from ..settings.access import code_in, without_code
from .configuration import Configuration

if TYPE_CHECKING:
    from ..sockets.addresses import Address


def check(found: Configuration, service: Service, supervised: bool) -> None:
    """Try all of it, and say that nothing is wrong.

    Args:
        found: what was given, and what is wrong with that.
        service: the same, with the defaults.
        supervised: whether there would be workers.
    Raises:
        GreenRouterError: the first thing that is wrong; the others have been shown.
    """
    errors: list[GreenRouterError] = [*found.errors]
    try:
        settings = Settings(**without_code(found.server))
    except ConfigError as error:  # each is right, and they do not go together
        errors.append(error)
        settings = Settings()
    try:
        patch = patches(service.patch, service.application)
    except ConfigError as error:
        errors.append(error)
        patch = False
    if patch:
        from gevent import monkey

        monkey.patch_all()

    def attempt(step: Callable[..., Any], *arguments: Any) -> None:
        try:
            step(*arguments)
        except GreenRouterError as error:
            errors.append(error)

    if service.application is not None:
        attempt(_check_application, service.application)
    elif not any(map(_concerns_application, found.errors)):
        errors.append(ConfigError("MODULE:CALLABLE", None, "given"))
    for target in code_in(found.server).values():
        attempt(_check_application, target)
    warnings: list[str] = []
    attempt(_check_access, settings, service.bind, warnings)
    in_use, later = _check_endpoints(
        service.bind, supervised and service.dispatch == "direct", settings, attempt
    )
    if service.connect:
        from ..serving import links

        attempt(links.check, service.connect, settings)
    if service.log_file is not None:
        attempt(_check_log_file, service.log_file)
    if service.control is not None:
        from ..processes import control

        attempt(control.check, service.control)
    if service.pid_file is not None:
        attempt(check_pid_file, service.pid_file)
    _conclude(service, supervised, errors, warnings, in_use, later)


def _conclude(
    service: Service,
    supervised: bool,
    errors: list[GreenRouterError],
    warnings: list[str],
    in_use: list[str],
    later: list[str],
) -> None:
    """Show what is wrong, and raise the first of it; or say that nothing is."""
    for further in errors[1:]:
        click.ClickException(str(further)).show()
    if errors:
        raise errors[0]  # the group shows it, and ends with its code
    workers = service.workers or int(supervised)
    click.echo(
        f"nothing is wrong with {service.application}, {workers or 'no'} "
        f"worker{'s' if workers != 1 else ''}, "
        f"{' '.join([*service.bind, *(service.connect or ())])}"
    )
    for warning in warnings:
        click.echo(f"warning: {warning}")
    for endpoint in in_use:
        click.echo(f"{endpoint} is in use now, by the service that runs already or by another one")
    for endpoint in later:
        click.echo(
            f"{endpoint} can be looked at only in the process that it is passed to (LISTEN_FDS)"
        )


def _concerns_application(error: ConfigError) -> bool:
    """True if an error says already why there is no application: it is wrong in the file, or the
    file is."""
    return error.setting == "--config" or error.setting.endswith(": application")


def _check_application(target: str) -> None:
    from .application import load

    load(target)


def _check_access(settings: Settings, endpoints: tuple[str, ...], warnings: list[str]) -> None:
    """Look at keys and users, and at what others can reach."""
    from ..security.policy import Policy

    policy = Policy(settings)
    if policy.keys is not None:
        policy.keys.check()
    policy.warn(endpoints, lambda _, warning: warnings.append(warning))


def _check_endpoints(
    endpoints: tuple[str, ...], direct: bool, settings: Settings, attempt: Callable[..., None]
) -> tuple[list[str], list[str]]:
    """Try each; return those where somebody listens, and those that nobody has passed yet."""
    from ..security.control import AccessControl
    from ..sockets.addresses import has_place
    from ..sockets.context import make_context
    from ..sockets.inherited import SCHEME
    from ..sockets.router import Router

    given: list[tuple[str, Address]] = []
    in_use: list[str] = []
    later: list[str] = []
    with make_context(settings) as context:
        # That of the settings is looked at by itself.
        router = Router(context, settings, access=AccessControl(Settings()))
        try:
            for endpoint in endpoints:
                if endpoint.startswith(SCHEME):
                    attempt(_check_inherited, endpoint, given, later)
                elif direct or has_place(endpoint):
                    attempt(_check_place, endpoint, given, in_use)
                else:
                    attempt(router.bind, endpoint)
        finally:
            router.close()
    return in_use, later


def _check_inherited(endpoint: str, given: list[tuple[str, Address]], later: list[str]) -> None:
    from ..sockets.addresses import place_of, refuse_second
    from ..sockets.inherited import check_form, descriptor_of, listening_at, passed

    check_form(endpoint)
    if not passed():
        later.append(endpoint)
        return
    place = place_of(listening_at(endpoint, descriptor_of(endpoint)))
    refuse_second(endpoint, place, given)
    given.append((endpoint, place))


def _check_place(endpoint: str, given: list[tuple[str, Address]], in_use: list[str]) -> None:
    from ..sockets.addresses import place_of, refuse_second

    place = place_of(endpoint)
    refuse_second(endpoint, place, given)
    given.append((endpoint, place))
    try:
        place.try_out(endpoint)
    except BindError as error:
        if error.errno != errno.EADDRINUSE or not place.listening:
            raise
        in_use.append(endpoint)


def _check_log_file(path: str) -> None:
    from ..processes import logs

    try:
        logs.check(path)
    except OSError as error:
        raise logs.cannot_write(path, error) from None
