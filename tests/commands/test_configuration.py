"""Where settings come from, and everything that can be wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from green_router.commands.configuration import Configuration, config_option, configuration
from green_router.commands.options import ROWS, settings_of
from green_router.settings import SERVICE, SETTINGS, Service, Settings


def gather(
    arguments: list[str], environment: dict[str, str], path: Path | None = None
) -> Configuration:
    """That of a command with all settings, called so."""
    found: list[Configuration] = []

    @click.command()
    @config_option()
    @settings_of(ROWS)
    def command(**settings: Any) -> None:
        found.append(configuration())

    result = CliRunner(env=environment).invoke(
        command, [*(["--config", str(path)] if path else []), *arguments]
    )
    assert result.exit_code == 0, result.output
    return found[0]


def test_the_command_line_wins_then_the_environment_then_the_file(tmp_path: Path) -> None:
    path = tmp_path / "s.toml"
    path.write_text("workers = 1\ngrace = 1\nlinger = 0.5\n")
    found = gather(
        ["--workers", "3"],
        {"GREEN_ROUTER_WORKERS": "2", "GREEN_ROUTER_GRACE": "2", "GREEN_ROUTER_OTHER": "x"},
        path,
    )
    assert (found.values["workers"], found.values["grace"], found.values["linger"]) == (3, 2.0, 0.5)
    assert found.errors == []
    assert (found.service, found.server) == ({"workers": 3}, {"grace": 2.0, "linger": 0.5})


def test_a_value_that_does_not_hold_is_no_error(tmp_path: Path) -> None:
    """Each source goes before the next. A name that is none is an error all the same."""
    path = tmp_path / "s.toml"
    path.write_text('workers = 0\ngrace = "long"\nlinger = "long"\nworker = 1\n')
    environment = {
        "GREEN_ROUTER_WORKERS": "many",
        "GREEN_ROUTER_GRACE": "5",
        "GREEN_ROUTER_BACKLOG": "0",
    }
    found = gather(["--workers", "3"], environment, path)
    assert found.values == {"workers": 3, "grace": 5.0}
    assert [error.setting for error in found.errors] == [
        f"{path}: worker",
        f"{path}: linger",
        "GREEN_ROUTER_BACKLOG",
    ]


@pytest.mark.parametrize(
    ("text", "name", "value"),
    [
        ("workers = 4", "workers", 4),
        ('max-message-bytes = "64KiB"', "max_message_bytes", 65536),
        ("max_message_bytes = 1000", "max_message_bytes", 1000),
        ('max_message_bytes = "none"', "max_message_bytes", None),
        ("reload = true", "reload", True),
        ('reload = "off"', "reload", False),
        ('bind = ["tcp://*:1", "ipc://x"]', "bind", ("tcp://*:1", "ipc://x")),
        ('bind = "tcp://*:1, ipc://x"', "bind", ("tcp://*:1", "ipc://x")),
        ('log_level = "WARNING"', "log_level", "warning"),
        ('on_error = "app:sorry"', "on_error", "app:sorry"),
        ('application = "app:handle"', "application", "app:handle"),
    ],
)
def test_values_of_a_file(tmp_path: Path, text: str, name: str, value: Any) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    found = gather([], {}, path)
    assert (found.errors, found.values) == ([], {name: value})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("workers = 0", "s.toml: workers = 0: must be an integer from 1"),
        ("workers = true", "workers = True: must be an integer"),
        ("bind = []", "bind = []: must be a list of texts"),
        ("on_error = 5", "on_error = 5: must be a text, module:callable"),
        ("worker = 5", "did you mean workers?"),
        ("xyzzy = 5", "see green-router settings"),
        ("workers = ", "--config = "),
    ],
)
def test_errors_of_a_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text(text)
    (error,) = gather([], {}, path).errors
    assert words in str(error)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    (error,) = gather([], {}, tmp_path / "none.toml").errors
    assert "No such file or directory" in str(error)


def test_every_default_passes_its_own_check() -> None:
    Service()
    Settings()
    assert not set(SERVICE) & set(SETTINGS)
    for row in ROWS.values():
        row.check(row.default)
