"""``green-router request``: bytes in, bytes out, and a sentence when nothing comes."""
from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine

from green_router.testing import PATIENCE

EVERY_BYTE = bytes(range(256))


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    """A plain ROUTER on a port of the system's choice, so that a test is the server."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:0")
        yield socket


def answered(command_line: CommandLine, router: zmq.Socket[bytes], *arguments: str, reply: list[bytes],
             stdin: bytes = b"") -> tuple[list[bytes], bytes]:
    """Return the body of the request that came, and what the command printed."""
    came: list[list[bytes]] = []

    def answer() -> None:
        assert router.poll(1000 * LIMIT_SECONDS)
        peer, delimiter, *body = router.recv_multipart()
        came.append(body)
        router.send_multipart([peer, delimiter, *reply])

    thread = threading.Thread(target=answer)
    thread.start()
    done = command_line.run("request", "--timeout", str(LIMIT_SECONDS), router.last_endpoint.decode(), *arguments,
                            stdin=stdin)
    thread.join(LIMIT_SECONDS)
    assert (done.returncode, done.stderr) == (0, b"")
    return came[0], done.stdout


@pytest.mark.parametrize(("arguments", "stdin", "sent"), [
    (["hello"], b"", b"hello"),
    ([], b"not read", b""),
    (["-"], EVERY_BYTE, EVERY_BYTE),
    (["-"], b"", b""),
    (["--", "--timeout"], b"", b"--timeout"),
    (["gr\u00fcn"], b"", "gr\u00fcn".encode()),
])
def test_sends_its_data(command_line: CommandLine, router: zmq.Socket[bytes], arguments: list[str], stdin: bytes,
                        sent: bytes) -> None:
    assert answered(command_line, router, *arguments, reply=[b"yes"], stdin=stdin) == ([sent], b"yes")


@pytest.mark.parametrize(("reply", "printed"), [
    ([b"plain"], b"plain"),
    ([b""], b""),
    ([EVERY_BYTE], EVERY_BYTE),
    ([b"one", b"two"], b"one\ntwo"),
    ([EVERY_BYTE * 4096], EVERY_BYTE * 4096),
])
def test_prints_the_reply_byte_for_byte(command_line: CommandLine, router: zmq.Socket[bytes], reply: list[bytes],
                                        printed: bytes) -> None:
    assert answered(command_line, router, "x", reply=reply)[1] == printed


def test_says_when_nobody_is_there(command_line: CommandLine, router: zmq.Socket[bytes]) -> None:
    endpoint = router.last_endpoint.decode()
    router.close()
    done = command_line.run("request", endpoint, "x", "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (f"Error: no reply from {endpoint} within 0.2 s: no connection was made; is a "
                                    "server running there?\n")


def test_says_when_a_server_does_not_answer(command_line: CommandLine, router: zmq.Socket[bytes]) -> None:
    endpoint = router.last_endpoint.decode()
    done = command_line.run("request", endpoint, "x", "--timeout", f"{2 * PATIENCE:g}")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (f"Error: no reply from {endpoint} within {2 * PATIENCE:g} s: the server was reached, but did not "
                                    "answer\n")


@pytest.mark.parametrize(("arguments", "words"), [
    (["tcp://127.0.0.1"], "'tcp://127.0.0.1': Invalid argument: write tcp://host:port or ipc://path"),
    (["localhost:5555"], "'localhost:5555': Invalid argument: write tcp://host:port or ipc://path"),
    (["http://127.0.0.1:80"], "'http://127.0.0.1:80': Protocol not supported: write tcp://host:port or ipc://path"),
    (["inproc://here"], "'inproc://here': an inproc endpoint can be reached only in the server's own process"),
    ([""], "'': Invalid argument: write tcp://host:port or ipc://path"),
    (["tcp://127.0.0.1:1", "x", "--timeout", "0"], "0 must be a number of seconds above 0"),
    (["tcp://127.0.0.1:1", "x", "--timeout", "nan"], "nan must be a number of seconds above 0"),
    (["tcp://127.0.0.1:1", "x", "--timeout", "soon"], "'soon' is not a valid float"),
    ([], "Missing argument 'ENDPOINT'"),
])
def test_refuses_what_is_wrong(command_line: CommandLine, arguments: list[str], words: str) -> None:
    done = command_line.run("request", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()
