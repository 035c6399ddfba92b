"""Rows of settings: all that there are, and one made for each kind of value.

Rules of this file
  1. The bounds of a row that is made here are known.
"""

from __future__ import annotations

from typing import Any

import pytest
import zmq
import zmq.green

from green_router import ConfigError
from green_router.settings import SERVICE, SETTINGS, Setting
from green_router.settings.access import Accounts, KeyFile, Keys, Mode, Networks
from green_router.settings.fields import setting
from green_router.settings.kinds import (
    Body,
    Choice,
    Context,
    Count,
    Engine,
    Function,
    Policy,
    RoutingId,
    Seconds,
    Size,
    Switch,
    Text,
    Texts,
)

SECRET = zmq.curve_keypair()[1]

ROWS = [*SETTINGS.values(), *SERVICE.values()]

MADE: dict[str, Setting[Any]] = {
    "integer": setting(1, Count(1, 10_000), "A number."),
    "bytes": setting(1, Size(1), "A size."),
    "seconds": setting(1.0, Seconds(0.5, 10), "A time."),
    "choice": setting("left", Choice("left", "right"), "A way."),
    "switch": setting(False, Switch(), "A light."),
    "text": setting("x", Text(), "A path."),
    "texts": setting(("x",), Texts(), "Endpoints."),
    "envelope": setting("bare", Policy(), "A policy."),
    "frames": setting(b"x", Body(), "A message."),
    "name": setting(b"x", RoutingId(), "A name."),
    "callable": setting(print, Function(), "Whom to ask."),
    "object": setting(None, Context(), "A thing."),
    "secret": setting("x", KeyFile(), "A secret."),
    "keys": setting("x", Keys(), "Some keys."),
    "networks": setting(("::1",), Networks(), "Some networks."),
    "accounts": setting((0,), Accounts(), "Some users."),
    "mode": setting(0o600, Mode(), "A mode."),
    "engine": setting("threads:1", Engine(), "Where."),
}
for made_name, made_row in MADE.items():
    made_row.name = made_name


def assert_refused(row: Setting[Any], value: Any) -> None:
    """ConfigError names the setting, the value and the rule, and nothing else comes out."""
    with pytest.raises(ConfigError) as caught:
        row.check(value)
    error = caught.value
    assert (error.setting, error.rule) == (row.name, row.rule)
    if isinstance(row.kind, KeyFile):
        assert value.__class__ is str or repr(value) not in str(error)
        assert SECRET.decode() not in str(error)
        value = error.value
    assert error.value is value
    assert str(error) == f"{row.name} = {value!r}: must be {row.rule}"
    assert error.__cause__ is None
