"""Settings as options of a command, made from their one declaration.

Rules of this file
  1. Nothing about a setting is said here: names, defaults, bounds and sentences come from SETTINGS
     and SERVICE.
  2. click says where a value comes from: the command line, then the environment, then the file
     (``default_map``, see configuration.py). Each is checked by the setting's own rule.
  3. What is wrong on the command line ends the command at once, as click does it. All else is
     gathered, and with ``--check`` that is too; whoever asked decides whether the first one is
     enough.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from ..errors import ConfigError
from ..settings import SERVICE, SETTINGS, Setting
from ..settings.kinds import Switch

Decorated = TypeVar("Decorated", bound=Callable[..., Any])

PREFIX = "GREEN_ROUTER_"
"""What a setting's name follows in the environment."""

ARGUMENT = "application"
"""The setting that is no option, but the argument of the command."""

ROWS: Mapping[str, Setting[Any]] = {
    **SERVICE,
    **{name: row for name, row in SETTINGS.items() if row.kind.written},
}
"""All that an option, the environment or a file may set."""

ERRORS, KEYS = "green_router.errors", "green_router.keys"
"""Where a context keeps what is wrong, and how the file names its settings."""


def errors_of(ctx: click.Context) -> list[ConfigError]:
    """Return what was gathered of what is wrong, to be added to."""
    errors: list[ConfigError] = ctx.meta.setdefault(ERRORS, [])
    return errors


def set_values(ctx: click.Context) -> dict[str, Any]:
    """Return the settings that were set, wherever; those that are wrong are among the errors
    instead."""
    return {
        name: value
        for name, value in ctx.params.items()
        if name in ROWS
        and value is not INVALID
        and ctx.get_parameter_source(name) not in (None, ParameterSource.DEFAULT)
    }


INVALID: Any = object()
"""The value of a parameter that is among the errors."""


class _Checked(click.Parameter):
    """A parameter whose values are checked by a setting."""

    def __init__(self, *arguments: Any, setting: Setting[Any], **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.setting = setting

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        assert self.name is not None
        source = ctx.get_parameter_source(self.name)
        if value is None or source in (None, ParameterSource.DEFAULT):
            return value
        text = " ".join(value) if self.multiple and source != ParameterSource.DEFAULT_MAP else value
        try:
            if source == ParameterSource.COMMANDLINE and not isinstance(value, str):
                return self.setting.check(value)  # a switch, or what is given several times
            return self.setting.parse(text)
        except ConfigError as error:
            return self._refuse(ctx, source, self.setting.kind.told(text), error.rule)

    def _refuse(self, ctx: click.Context, source: ParameterSource, text: Any, rule: str) -> Any:
        if source == ParameterSource.COMMANDLINE and not ctx.params.get("check"):
            raise click.BadParameter(f"{text!r} must be {rule}", ctx, self) from None
        where = {
            ParameterSource.COMMANDLINE: self.opts[0],
            ParameterSource.ENVIRONMENT: self.envvar,
            ParameterSource.DEFAULT_MAP: ctx.meta.get(KEYS, {}).get(self.name),
        }
        errors_of(ctx).append(ConfigError(str(where[source]), text, rule))
        return INVALID


class SettingOption(_Checked, click.Option):
    """An option for a setting."""


class SettingArgument(_Checked, click.Argument):
    """An argument for a setting."""


def settings_of(rows: Mapping[str, Setting[Any]]) -> Callable[[Decorated], Decorated]:
    """Give a command a parameter for each of these settings that can be written as a text."""

    def decorate(function: Decorated) -> Decorated:
        for row in reversed([row for row in rows.values() if row.kind.written]):
            function = _parameter(row)(function)
        return function

    return decorate


def _parameter(row: Setting[Any]) -> Callable[[Decorated], Decorated]:
    variable = PREFIX + row.name.upper()
    if row.name == ARGUMENT:
        return click.argument(
            row.name,
            cls=SettingArgument,
            setting=row,
            metavar=row.kind.metavar,
            required=False,
            envvar=variable,
        )
    option = f"--{row.name.replace('_', '-')}"
    described: dict[str, Any] = {
        "cls": SettingOption,
        "setting": row,
        "envvar": variable,
        "default": None,
        "help": f"{row.doc} [{row.shown()}]",
    }
    if isinstance(row.kind, Switch):
        return click.option(f"{option}/--no-{option[2:]}", row.name, **described)
    return click.option(
        option,
        *row.flags,
        row.name,
        metavar=row.kind.metavar,
        multiple=row.kind.repeated,
        **described,
    )


def number_option(
    *names: str, least: int, most: int, help: str, default: int | None = None, metavar: str = "N"
) -> Callable[[Decorated], Decorated]:
    """Return an option for a whole number that is no setting, within these bounds."""
    return click.option(
        *names,
        type=click.IntRange(least, most),
        metavar=metavar,
        default=default,
        show_default=default is not None,
        help=help,
    )


def duration_option(name: str, default: float, help: str) -> Callable[[Decorated], Decorated]:
    """Return an option for a duration that is no setting: a finite number of seconds above zero."""
    return click.option(
        name,
        type=float,
        callback=_duration,
        metavar="SECONDS",
        default=default,
        show_default=True,
        help=help,
    )


def _duration(ctx: click.Context, param: click.Parameter, value: float) -> float:
    if not 0 < value <= 86400:
        raise click.BadParameter(
            f"{value:g} must be a number of seconds above 0, 86400 (a day) at most"
        )
    return value
