"""SECURITY.md does what it shows.

Rules of this file
  1. Commands and programs are those of the document; only the endpoint and what is optional is
     another.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command_line import LIMIT_SECONDS, CommandLine

DOCUMENT = (Path(__file__).parent.parent / "SECURITY.md").read_text(encoding="utf-8")
PROGRAMS = re.findall(r"^```python\n(.*?)^```", DOCUMENT, re.M | re.S)


@pytest.fixture
def command_line(tmp_path: Path) -> Any:
    line = CommandLine(tmp_path)
    yield line
    line.close()


def test_a_client_with_a_key_is_served_and_one_without_is_not(command_line: CommandLine) -> None:
    command_line.write("app.py", "def handle_request(request):\n    return request.data.upper()\n")
    keygen = re.search(r"green-router (keygen \w+)\n    mkdir (\w+) && cp (\S+) ", DOCUMENT)
    serve = re.search(r"--curve-secret-key (\S+) --authorized-keys (\w+)", DOCUMENT)
    assert keygen
    assert serve
    assert command_line.run(*keygen[1].split()).returncode == 0
    (command_line.directory / keygen[2]).mkdir()
    copied = command_line.directory / keygen[3]
    (command_line.directory / keygen[2] / copied.name).write_bytes(copied.read_bytes())
    server = command_line.start(
        "serve",
        "app.py:handle_request",
        "--bind",
        "tcp://127.0.0.1:0",
        "--curve-secret-key",
        serve[1],
        "--authorized-keys",
        serve[2],
    )
    endpoint = server.endpoint()
    client = (
        PROGRAMS[0].replace("tcp://server:5555", endpoint)
        + "client.send(b'hello')\nprint(client.recv())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", client],
        cwd=command_line.directory,
        capture_output=True,
        text=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    assert done.stdout == "b'HELLO'\n"
    refused = command_line.run("request", endpoint, "hello", "--timeout", "0.5")
    assert refused.returncode == 1


def test_bodies_of_data_alone() -> None:
    msgspec = pytest.importorskip("msgspec")
    program: dict[str, Any] = {}
    exec(PROGRAMS[1], program)

    class Request:
        data = msgspec.msgpack.encode({"item": "tea", "count": 3})

    assert msgspec.msgpack.decode(program["handle_request"](Request())) == {"ordered": 3}
    Request.data = json.dumps({"item": "tea"}).encode()
    with pytest.raises(msgspec.DecodeError):
        program["handle_request"](Request())
