"""Settings as texts: what is read, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from click.testing import CliRunner

from green_router import ConfigError
from green_router.commands import main
from green_router.commands.serve import command
from green_router.settings import SERVICE, SETTINGS


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("max_in_flight", "10", 10),
        ("grace", "0.5", 0.5),
        ("grace", "2", 2.0),
        ("max_message_bytes", "1000", 1000),
        ("max_message_bytes", "1000B", 1000),
        ("max_message_bytes", "3 KiB", 3072),
        ("max_message_bytes", "64mib", 64 * 1024**2),
        ("max_message_bytes", "2GiB", 2 * 1024**3),
        ("max_message_bytes", "none", None),
        ("handler_timeout", "None", None),
        ("on_error", "app:on_error", "app:on_error"),
    ],
)
def test_reads(name: str, text: str, value: Any) -> None:
    assert SETTINGS[name].parse(text) == value


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("max_in_flight", "0"),
        ("max_in_flight", "1.5"),
        ("max_in_flight", "none"),
        ("max_in_flight", ""),
        ("grace", "-1"),
        ("grace", "nan"),
        ("grace", "soon"),
        ("max_message_bytes", "1.5MiB"),
        ("max_message_bytes", "64MB"),
        ("max_message_bytes", "-1"),
        ("envelope", "first"),
        ("envelope", "fixed:0"),
    ],
)
def test_refuses(name: str, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        SETTINGS[name].parse(text)
    assert caught.value.setting == name


def test_what_is_given_several_times_is_checked_too() -> None:
    for arguments, words in (
        (["--bind", ""], "Invalid value for '--bind' / '-b': '' must be a list of texts"),
        (["-b", "tcp://*:1", "-b", ""], "'tcp://*:1 ' must be a list of texts"),
    ):
        result = CliRunner().invoke(main, ["serve", "app:handle_request", *arguments])
        assert result.exit_code == 2
        assert words in result.output


def test_the_application_is_an_argument_and_no_option() -> None:
    names = [parameter.name for parameter in command.params]
    assert names.count("application") == 1
    assert set(names) == {"config", "check", *SERVICE, *SETTINGS} - {"context"}


@pytest.mark.parametrize("policy", ["delimiter", "bare", "last", "fixed:2", "marker:<IDS|MSG>"])
def test_reads_envelopes(policy: str) -> None:
    assert SETTINGS["envelope"].parse(policy) == SETTINGS["envelope"].check(policy)
