"""Who may connect, as settings: what does not go together is told; code is named, not loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import zmq

from green_router import Access, ConfigError
from green_router.settings.access import (
    code_in,
    is_elsewhere,
    names_callable,
    with_code,
    without_code,
)

NAMED = {
    "plain": "app:plain",
    "authorized_keys": "app:keys",
    "on_error": "app:on_error",
    "grace": 5,
}


@pytest.mark.parametrize(
    ("values", "setting"),
    [
        ({"authorized_keys": "*"}, "curve_secret_key"),
        ({"curve_secret_key": "server.key_secret"}, "authorized_keys"),
        (
            {"curve_secret_key": "server.key_secret", "authorized_keys": "*", "plain": print},
            "plain",
        ),
        ({"curve_secret_key": zmq.curve_keypair()[1]}, "authorized_keys"),
    ],
)
def test_what_does_not_go_together_names_the_setting(values: dict[str, Any], setting: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Access(**values)
    assert caught.value.setting == setting


def test_a_directory_with_a_colon_in_its_name_is_no_callable(tmp_path: Path) -> None:
    (directory := tmp_path / "keys:old").mkdir()
    assert names_callable("app:keys")
    assert not names_callable(str(directory))
    assert code_in({"authorized_keys": str(directory)}) == {}
    assert not names_callable(print)


def test_code_is_found_by_its_names() -> None:
    assert code_in(NAMED) == {
        name: NAMED[name] for name in ("plain", "authorized_keys", "on_error")
    }
    assert code_in({"plain": print, "authorized_keys": "keys"}) == {}
    assert with_code(NAMED, str.upper) == {
        "plain": "APP:PLAIN",
        "authorized_keys": "APP:KEYS",
        "on_error": "APP:ON_ERROR",
        "grace": 5,
    }


def test_where_no_code_is_loaded_a_stand_in_says_that_it_is_elsewhere() -> None:
    values = without_code(NAMED)
    assert is_elsewhere(values["plain"]) and is_elsewhere(values["authorized_keys"])
    assert (values["on_error"], values["on_disconnect"], values["grace"]) == (None, None, 5)
    assert not is_elsewhere(print)
    with pytest.raises(ConfigError, match="asked in a worker"):
        values["plain"]("name", "password", "127.0.0.1")
