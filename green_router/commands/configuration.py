"""Where settings come from: the command line, then the environment, then a file, then their defaults.

Rules of this file
  1. The order is the same for all settings, and each value is checked by the setting's own rule.
  2. All errors are gathered; whoever asked decides whether the first one is enough. A value that does not hold, because
     another one goes before it, is not looked at.
  3. A name in a file that is no setting is an error. In the environment it is not: others may use the prefix.
"""
from __future__ import annotations

import difflib
import sys
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..errors import ConfigError
from ..settings import SERVICE, SETTINGS, Setting
from .options import parse

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]

PREFIX = "GREEN_ROUTER_"

ROWS: Mapping[str, Setting] = {**SERVICE, **{name: row for name, row in SETTINGS.items() if row.kind != "object"}}
"""All that a file or the environment may set."""


@dataclass
class Configuration:
    """What holds, by name, where it is not the default; and what is wrong with it."""

    values: dict[str, Any] = field(default_factory=dict)
    errors: list[ConfigError] = field(default_factory=list)

    @property
    def service(self) -> dict[str, Any]:
        """Those of SERVICE."""
        return {name: value for name, value in self.values.items() if name in SERVICE}

    @property
    def server(self) -> dict[str, Any]:
        """Those of SETTINGS."""
        return {name: value for name, value in self.values.items() if name in SETTINGS}


def gather(given: Mapping[str, Any], environment: Mapping[str, str], path: str | None) -> Configuration:
    """Put together what holds.

    Args:
        given: on the command line, checked already.
        environment: as ``os.environ``.
        path: of a TOML file, or None.
    """
    found = Configuration()
    named = {name: PREFIX + name.upper() for name in ROWS if name not in given and environment.get(PREFIX + name.upper())}
    if path is not None:
        _read_file(path, found, {*given, *named})
    for name, variable in named.items():
        _take(found, name, variable, ROWS[name], environment[variable])
    found.values.update(given)
    return found


def _take(found: Configuration, name: str, where: str, setting: Setting, value: Any) -> None:
    try:
        if isinstance(value, str):
            found.values[name] = parse(setting, value)
        elif setting.kind == "callable":
            raise ConfigError(name, value, "a text, module:callable")
        else:
            found.values[name] = setting.check(value)
    except ConfigError as error:
        found.errors.append(ConfigError(where, value, error.rule))


def _read_file(path: str, found: Configuration, overridden: Container[str]) -> None:
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        found.errors.append(ConfigError("--config", path, f"a file that can be read ({error.strerror})"))
        return
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        found.errors.append(ConfigError("--config", path, f"a TOML file ({error})"))
        return
    for key, value in document.items():
        name = key.replace("-", "_")
        if name in overridden:
            continue
        if name in ROWS:
            _take(found, name, f"{path}: {key}", ROWS[name], value)
        else:
            close = difflib.get_close_matches(name, ROWS, 1)
            meant = f"; did you mean {close[0]}?" if close else ", see green-router settings"
            found.errors.append(ConfigError(f"{path}: {key}", value, f"under the name of a setting{meant}"))
