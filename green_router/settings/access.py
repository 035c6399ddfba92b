"""The settings that say who may connect: of a whole server, or of one endpoint of it.

Rules of this file
  1. Whatever is given for a secret key is shown only where it is the path of a file, and cannot be
     a key that somebody has put in its place.
  2. Nothing is read or resolved here (security/policy.py): a file may come later than the settings.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from ipaddress import ip_network
from typing import Any

from ..async_functions import refuse_async
from ..errors import ConfigError
from .fields import Values, setting
from .kinds import Function, Kind, Switch, Texts
from .secret_key import KEY_CHARACTERS, Hidden, SecretKey

ANY_KEY = "*"
"""In the place of a directory of keys: every client that knows the server's key is let in."""


class KeyFile(Kind["str | SecretKey"]):
    """A secret key: the path of its file, or in a program the key itself."""

    metavar = "FILE"
    rule = "the path of a secret key file (green-router keygen), or in a program the key as bytes"

    def check(self, value: Any, name: str) -> str | SecretKey:
        if isinstance(value, SecretKey):
            return value
        if isinstance(value, (bytes, bytearray)):
            return SecretKey(bytes(value))
        path = os.fspath(value)
        if not isinstance(path, str) or not path or _may_be_a_key(path):
            raise ValueError
        return path

    def told(self, value: Any) -> Any:
        """Show a path, and nothing that may be a key."""
        is_path = isinstance(value, (str, os.PathLike)) and not _may_be_a_key(os.fspath(value))
        return value if is_path else Hidden()


def _may_be_a_key(path: object) -> bool:
    if not isinstance(path, str) or len(path) != KEY_CHARACTERS or os.path.exists(path):
        return not isinstance(path, str)
    with suppress(ValueError):
        SecretKey(path)
        return True
    return False


class Keys(Kind["str | Callable[..., Any]"]):
    """The authorized keys: a directory, or a callable."""

    metavar = "DIR|MODULE:CALLABLE"
    rule = f"a directory of key files, a callable, or {ANY_KEY} for every key"

    def check(self, value: Any, name: str) -> str | Callable[..., Any]:
        if callable(value):
            refuse_async(name, value)
            return value  # type: ignore[no-any-return]
        path = os.fspath(value)
        if not isinstance(path, str) or not path:
            raise ValueError
        return path


def names_callable(value: object) -> bool:
    """Tell whether the text of ``authorized_keys`` is ``module:callable`` rather than a
    directory."""
    return isinstance(value, str) and ":" in value and not os.path.isdir(value)


class Networks(Texts):
    """IP addresses and networks."""

    metavar = "CIDR"
    rule = "a list of addresses and networks, as 10.0.0.0/8 or ::1; no bits after the mask"

    def check(self, value: Any, name: str) -> tuple[str, ...]:
        return tuple(str(ip_network(text)) for text in super().check(value, name))


class Accounts(Kind[tuple["str | int", ...]]):
    """Users or groups of this machine."""

    metavar, repeated = "NAME", True
    rule = "a list of names or numbers"

    def check(self, value: Any, name: str) -> tuple[str | int, ...]:
        if not isinstance(value, (list, tuple)) or not value:
            raise ValueError
        for account in value:
            number = isinstance(account, int) and not isinstance(account, bool)
            if not (number and 0 <= account < 2**32 - 1) and not (
                isinstance(account, str) and account
            ):
                raise ValueError
        return tuple(value)

    def parse(self, text: str) -> list[str]:
        return text.replace(",", " ").split()

    def show(self, value: tuple[str | int, ...]) -> str:
        return " ".join(map(str, value))


class Mode(Kind[int]):
    """The permissions of a file."""

    metavar = "MODE"
    rule = "an octal mode, 0 to 0777"

    def check(self, value: Any, name: str) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= 0o777:
            raise ValueError
        return value

    def parse(self, text: str) -> int:
        return int(text, 8)

    def show(self, value: int) -> str:
        return f"{value:04o}"


class Access(Values):
    """The settings that say who may connect to an endpoint: ``server.bind("tcp://*:5555",
    access=Access(...))``.

    Args:
        values: the settings of the same names of ``Server``, by name. What is not given holds as
            by default, whatever the server has.
    Raises:
        ConfigError: an unknown name, a value that breaks its rule, or two that do not go together.
    """

    curve_secret_key = setting(
        None,
        KeyFile(),
        "The server's CURVE key pair: the path of its secret file, which only its owner should be "
        "able to read. Every endpoint then needs CURVE, and authorized_keys says of whom.",
        absent="no CURVE",
    )
    authorized_keys = setting(
        None,
        Keys(),
        "Whose CURVE keys are let in: a directory of key files (green-router keygen), a callable "
        "that gets (key, address) and returns false, true, a user id, or a dict of user_id and "
        "role, or * for every key.",
        absent="needed with curve_secret_key",
    )
    plain = setting(
        None,
        Function(),
        "Who is let in by user name and password (PLAIN, in the clear): a callable that gets "
        "(name, password, address) and returns as for authorized_keys.",
        absent="no PLAIN",
    )
    allow_addresses = setting(
        None,
        Networks(),
        "From which addresses and networks TCP connections are accepted; others are refused before "
        "any handshake.",
        absent="all",
        flags=("--allow-address",),
    )
    allow_users = setting(
        None,
        Accounts(),
        "Processes of which users may connect over ipc, by name or number.",
        absent="all",
        flags=("--allow-user",),
    )
    allow_groups = setting(
        None,
        Accounts(),
        "Processes of which groups may connect over ipc, by name or number.",
        absent="all",
        flags=("--allow-group",),
    )
    require_curve = setting(
        False,
        Switch(),
        "Refuse to serve a TCP address that is not loopback without CURVE, instead of a warning.",
    )
    ipc_mode = setting(
        None,
        Mode(),
        "The permissions of ipc socket files, from the first moment.",
        absent="0600, and 0666 where allow_users or allow_groups says who may connect",
    )

    def __init__(self, **values: Any) -> None:
        super().__init__(**values)
        check_access(self)


def check_access(values: Any) -> None:
    """Raise ConfigError where values of these names do not go together."""
    if values.authorized_keys is not None and values.curve_secret_key is None:
        raise ConfigError(
            "curve_secret_key",
            None,
            "given where authorized_keys is: without the server's key nobody shows his",
        )
    if values.curve_secret_key is not None and values.authorized_keys is None:
        raise ConfigError(
            "authorized_keys",
            None,
            "given where curve_secret_key is, or it would say nothing of who is let in: "
            f"{Keys.rule}",
        )
    if values.plain is not None and values.curve_secret_key is not None:
        raise ConfigError(
            "plain",
            values.plain,
            "left out where curve_secret_key is given: an endpoint has one of the two; see "
            "Server.bind(access=...) for several",
        )


CODE = ("on_error", "on_disconnect", "plain", "authorized_keys")
"""Settings that may name a callable of the application."""


def code_in(values: Mapping[str, Any]) -> dict[str, str]:
    """Return those of these settings that are texts which name a callable, by name."""
    return {
        name: values[name]
        for name in CODE
        if isinstance(values.get(name), str)
        and (name != "authorized_keys" or names_callable(values[name]))
    }


def without_code(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same settings for a process that loads no code of the application.

    What decides who may connect is there, and says that it is elsewhere; ``on_error`` and
    ``on_disconnect`` are left out.
    """
    elsewhere = dict.fromkeys(code_in(values), _elsewhere)
    return {**values, **elsewhere, "on_error": None, "on_disconnect": None}


def with_code(
    values: Mapping[str, Any], load: Callable[[str], Callable[..., Any]]
) -> dict[str, Any]:
    """Return the same settings with the callables that they name, loaded."""
    return {**values, **{name: load(target) for name, target in code_in(values).items()}}


def is_elsewhere(value: object) -> bool:
    """Tell whether a callable is only the stand-in for one of an application that is not loaded."""
    return value is _elsewhere


def _elsewhere(*_: object) -> object:
    raise ConfigError("authorized_keys", None, "asked in a worker")
