"""``green-router proxy`` as a user has it: processes, signals, statistics."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path
from signal import SIGHUP, SIGKILL, SIGTERM, SIGUSR1

import pytest
import zmq

UPPER = "def handle_request(request):\n    return request.data.upper()\n"

ANY = "tcp://127.0.0.1:0"


@pytest.fixture
def client():
    """A REQ that asks again when no reply comes; a function of an endpoint and data."""
    with zmq.Context() as context:
        context.linger = 0

        def ask(endpoint, data, tries=20):
            for _ in range(tries):
                with context.socket(zmq.REQ) as socket:
                    socket.connect(endpoint)
                    socket.send(data)
                    if socket.poll(1000):
                        return socket.recv()
            raise AssertionError(f"no reply after {tries} tries")

        yield ask


def start(command_line, *options):
    """A proxy, with the endpoints for clients and for servers."""
    proxy = command_line.start("proxy", "--frontend", ANY, "--backend", ANY, *options)
    return (
        proxy,
        proxy.out.until("for clients on").split()[-1],
        proxy.out.until("for servers on").split()[-1],
    )


@pytest.mark.parametrize("options", [(), ("--round-robin",)])
def test_servers_come_go_and_die_behind_one_address(command_line, client, options):
    command_line.write("app.py", UPPER)
    proxy, frontend, backend = start(command_line, "--control", "here.sock", *options)
    first = command_line.start("serve", "app:handle_request", "--connect", backend)
    assert first.out.until("serving clients of").split()[-1] == backend
    assert client(frontend, b"hello") == b"HELLO"
    second = command_line.start(
        "serve", "app:handle_request", "--connect", backend, "--workers", "1"
    )
    second.out.until("serving clients of")
    first.process.send_signal(SIGTERM)
    assert first.ends() == 0
    assert client(frontend, b"again") == b"AGAIN"
    second.process.send_signal(SIGKILL)
    third = command_line.start("serve", "app:handle_request", "--connect", backend, "--bind", ANY)
    assert client(third.endpoint(), b"directly") == b"DIRECTLY"
    assert client(frontend, b"still") == b"STILL"
    stats = json.loads(command_line.run("stats", "--json", "here.sock").stdout)
    assert stats["endpoints"] == [frontend]
    assert stats["proxy"]["dispatch"] == ("round robin" if options else "credit")
    shown = command_line.run("stats", "here.sock").stdout.decode()
    assert frontend in shown
    assert "dispatch" in shown
    for survived in (SIGHUP, SIGUSR1):
        proxy.process.send_signal(survived)
        proxy.err.until(survived.name)
    proxy.process.send_signal(SIGTERM)
    assert proxy.ends() == 0


def test_check_says_what_is_wrong(command_line):
    ended = command_line.run("proxy", "--check", "--frontend", "tcp://*", "--backend", "nonsense")
    assert ended.returncode == 3
    assert b"the port is missing" in ended.stderr
    assert b"nonsense" in ended.stderr
    fine = command_line.run("proxy", "--check", "--frontend", ANY, "--backend", ANY)
    assert fine.returncode == 0
    assert b"nothing is wrong" in fine.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("proxy", "--backend", ANY), 2, b"--frontend"),
        (
            ("proxy", "--frontend", "tcp://203.0.113.1:5555", "--backend", ANY),
            3,
            b"no such address",
        ),
        (
            ("proxy", "--frontend", ANY, "--backend", ANY, "--authorized-servers", "here"),
            2,
            b"curve_secret_key",
        ),
        (
            ("proxy", "--frontend", ANY, "--backend", ANY, "--authorized-servers", "app:let_in"),
            2,
            b"no code of an application",
        ),
        (
            (
                "serve",
                "app:handle_request",
                "--connect",
                "tcp://broker:5556",
                "--proxy-key",
                "none.key",
            ),
            2,
            b"none.key",
        ),
        (("serve", "app:handle_request", "--connect", "tcp://*:5556"), 3, b"tcp://broker:5556"),
        (
            ("serve", "app:handle_request", "--connect", "tcp://broker:5556", "--envelope", "bare"),
            2,
            b"fixed:2",
        ),
        (
            ("serve", "app:handle_request", "--check", "--connect", "tcp://broker:0"),
            3,
            b"tcp://broker:5556",
        ),
    ],
)
def test_what_is_wrong_ends_it_with_a_sentence(command_line, arguments, code, words):
    command_line.write("app.py", UPPER)
    ended = command_line.run(*arguments)
    assert (ended.returncode, words in ended.stderr) == (code, True), ended.stderr


def test_the_session_of_the_document_goes_as_it_is_shown(command_line):
    text = (Path(__file__).parents[2] / "docs" / "scaling.md").read_text(encoding="utf-8")
    command_line.write(
        "app.py", re.search(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    )
    session = re.search(r"^```console\n(.*?)^```", text, re.DOTALL | re.MULTILINE)[1]
    ports = {}
    for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
        command, *promised = step.splitlines()
        for shown, real in ports.items():
            command = command.replace(shown, real)
        arguments = shlex.split(re.sub(r"tcp://127.0.0.1:555\d", ANY, command).removesuffix(" &"))[
            1:
        ]
        if not command.endswith(" &"):
            assert command_line.run(*arguments).stdout.decode().splitlines() == promised
            continue
        running = command_line.start(*arguments)
        for line in promised:
            words, _, shown = line.rpartition(" ")
            printed = running.out.until(words).split()[-1]
            ports.setdefault(shown, printed)
            assert ports[shown] == printed
