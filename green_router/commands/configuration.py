"""The configuration of a command that serves: what was set, and all that is wrong with it.

Rules of this file
  1. The order is the same for all settings: the command line, the environment, the file, the
     defaults. click keeps it; the file is its ``default_map``. A value that does not hold, because
     another one goes before it, is not looked at.
  2. A name in a file that is no setting is an error. In the environment it is not: others may use
     the prefix.
"""

from __future__ import annotations

import difflib
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import click

from ..errors import ConfigError
from ..settings import SERVICE, SETTINGS
from .options import KEYS, ROWS, Decorated, errors_of, set_values

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib  # type: ignore[import-not-found, unused-ignore]


@dataclass
class Configuration:
    """The settings that were set, by name, and what is wrong with the others."""

    values: dict[str, Any]
    errors: list[ConfigError]

    @property
    def service(self) -> dict[str, Any]:
        """The settings of SERVICE that were set."""
        return {name: value for name, value in self.values.items() if name in SERVICE}

    @property
    def server(self) -> dict[str, Any]:
        """The settings of SETTINGS that were set."""
        return {name: value for name, value in self.values.items() if name in SETTINGS}


def configuration() -> Configuration:
    """Return that of the command that runs."""
    ctx = click.get_current_context()
    return Configuration(set_values(ctx), errors_of(ctx))


def config_option(remark: str = "") -> Callable[[Decorated], Decorated]:
    """Return the option ``--config``, with this remark behind what it says."""
    return click.option(
        "-c",
        "--config",
        metavar="FILE",
        is_eager=True,
        expose_value=False,
        callback=_read_file,
        help=f"A TOML file with settings, under their names with underscores{remark}.",
    )


def _read_file(ctx: click.Context, param: click.Parameter, path: str | None) -> str | None:
    """Take a TOML file as what holds where nothing else is said."""
    if path is None:
        return None
    try:
        with open(path, "rb") as file:
            document = tomllib.load(file)
    except OSError as error:
        errors_of(ctx).append(
            ConfigError("--config", path, f"a file that can be read ({error.strerror})")
        )
        return path
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        errors_of(ctx).append(ConfigError("--config", path, f"a TOML file ({error})"))
        return path
    keys = {key.replace("-", "_"): key for key in document}
    for name in [name for name in keys if name not in ROWS]:
        close = difflib.get_close_matches(name, ROWS, 1)
        meant = f"; did you mean {close[0]}?" if close else ", see green-router settings"
        key = keys.pop(name)
        errors_of(ctx).append(
            ConfigError(f"{path}: {key}", document[key], f"under the name of a setting{meant}")
        )
    ctx.meta[KEYS] = {name: f"{path}: {key}" for name, key in keys.items()}
    ctx.default_map = {name: document[key] for name, key in keys.items()}
    return path
