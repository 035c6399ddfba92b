"""Settings as command-line options, made from their one declaration.

Rules of this file
  1. Nothing about a setting is said here: names, defaults, bounds and sentences come from SETTINGS and SERVICE.
  2. An option that is not given is not passed on, so that the server's own default holds.
  3. A text becomes a value here; whether it is a good one, Setting.check decides.
"""
from __future__ import annotations

import os
import re
from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..errors import ConfigError
from ..settings import SERVICE, SETTINGS, Setting

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

UNITS = {"": 1, "B": 1, "KIB": 1024, "MIB": 1024**2, "GIB": 1024**3}
"""What a size may end with on the command line."""

WORDS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
"""What a switch may be in a text."""

METAVARS = {"text": "TEXT", "texts": "TEXT",
            "integer": "N", "seconds": "SECONDS", "bytes": "SIZE", "envelope": "POLICY", "frames": "TEXT", "name": "TEXT",
            "callable": "MODULE:CALLABLE"}


def parse(setting: Setting, text: str) -> Any:
    """Read a setting's value from a text.

    Args:
        setting: the setting.
        text: as written on a command line: ``10``, ``0.5``, ``64MiB``, ``fixed:2``; ``none`` where None is a value.
    Returns:
        The value in its final form, as Setting.check returns it; for a callable the text itself.
    Raises:
        ConfigError: the text is no value of that kind, or breaks the setting's rule. No other exception.
    """
    if setting.optional and text.lower() == "none":
        return None
    value: Any = text
    try:
        if setting.kind == "integer":
            value = int(text)
        elif setting.kind == "choice":
            value = text.lower()
        elif setting.kind == "switch":
            value = WORDS[text.lower()]
        elif setting.kind == "texts":
            value = text.replace(",", " ").split()
        elif setting.kind == "seconds":
            value = float(text)
        elif setting.kind == "bytes":
            number, unit = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", text).groups()  # type: ignore[union-attr]
            value = int(number) * UNITS[unit.upper()]
        elif setting.kind in ("frames", "name"):
            value = os.fsencode(text)
        elif setting.kind == "callable":
            return text
    except (ValueError, AttributeError, KeyError):
        raise ConfigError(setting.name, text, setting.rule) from None
    return setting.check(value)


def duration(ctx: click.Context, param: click.Parameter, value: float) -> float:
    """Check an option's duration that is no setting: a finite number of seconds above zero (a click callback)."""
    if not 0 < value <= 86400:
        raise click.BadParameter(f"{value:g} must be a number of seconds above 0, 86400 (a day) at most")
    return value


def server_settings(function: Decorated) -> Decorated:
    """Give a command an option for each setting that can be written as a text."""
    rows = [setting for setting in SETTINGS.values() if setting.kind != "object"]
    for setting in reversed(rows):
        function = _option(setting)(function)
    return function


SHORT = {"bind": "-b"}
"""Settings that have a short option too."""

ARGUMENT = "application"
"""The setting that is no option, but the argument of the command."""


def service_settings(function: Decorated) -> Decorated:
    """Give a command an option for each setting of a service."""
    for setting in reversed([setting for setting in SERVICE.values() if setting.name != ARGUMENT]):
        function = _option(setting)(function)
    return function


def _option(setting: Setting) -> Callable[[Decorated], Decorated]:
    name = f"--{setting.name.replace('_', '-')}"
    text = f"{setting.doc} [{default_of(setting)}]"
    if setting.kind == "switch":
        return click.option(f"{name}/--no-{name[2:]}", setting.name, default=None, help=text)
    if setting.kind == "texts":
        return click.option(name, SHORT.get(setting.name, name), setting.name, multiple=True, metavar=METAVARS["texts"],
                            callback=partial(_read, setting), help=text)
    return click.option(name, setting.name, metavar=METAVARS.get(setting.kind, "|".join(setting.choices)),
                        callback=partial(_read, setting), help=text)


def given(settings: dict[str, Any]) -> dict[str, Any]:
    """Keep the settings that were given on the command line of the command that runs."""
    source = click.get_current_context().get_parameter_source
    return {name: value for name, value in settings.items()
            if source(name) not in (None, ParameterSource.DEFAULT)}


def _read(setting: Setting, ctx: click.Context, param: click.Parameter, given: str | tuple[str, ...] | None) -> Any:
    if not given and not isinstance(given, str):
        return given
    try:
        return setting.check(given) if isinstance(given, tuple) else parse(setting, given)
    except ConfigError as error:
        text = given if isinstance(given, str) else " ".join(given)
        if ctx.params.get("check"):
            errors: list[ConfigError] = ctx.meta.setdefault(ERRORS, [])
            errors.append(ConfigError(f"--{setting.name.replace('_', '-')}", text, error.rule))
            return setting.default
        raise click.BadParameter(f"{text!r} must be {error.rule}") from None


ERRORS = "green_router.errors"
"""Where a context keeps what is wrong, when all of it is to be reported (``serve --check``)."""


def default_of(setting: Setting) -> str:
    """A setting's default, as help and tables show it."""
    if setting.default is None:
        return f"default: {setting.absent}"
    shown = f"{setting.default}"
    if setting.kind == "bytes":
        unit = max((name for name in ("MiB", "KiB", "B") if setting.default % UNITS[name.upper()] == 0),
                   key=lambda name: UNITS[name.upper()])
        shown = f"{setting.default // UNITS[unit.upper()]}{unit}"
    elif setting.kind == "seconds":
        shown = f"{setting.default:g}"
    elif setting.kind == "switch":
        shown = "on" if setting.default else "off"
    elif setting.kind == "texts":
        shown = " ".join(setting.default)
    return f"default: {shown}" + (f"; none: {setting.absent}" if setting.optional else "")
