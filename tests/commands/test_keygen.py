"""``green-router keygen`` says where it has put what, and nothing of what that is."""

from __future__ import annotations

from pathlib import Path

import zmq
import zmq.auth
from click.testing import CliRunner

from green_router.commands import main


def test_the_command_prints_paths_and_no_keys(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    result = CliRunner().invoke(main, ["keygen", str(directory), "--metadata", "role=admin"])
    assert result.exit_code == 0
    assert sorted(path.name for path in directory.iterdir()) == [
        "client.key",
        "client.key_secret",
        "server.key",
        "server.key_secret",
    ]
    for path in directory.iterdir():
        assert str(path) in result.output
        public, secret = zmq.auth.load_certificate(path)
        assert public.decode() not in result.output
        assert secret is None or secret.decode() not in result.output
    again = CliRunner().invoke(main, ["keygen", str(directory)])
    assert again.exit_code == 2
    assert "which exists" in again.output
