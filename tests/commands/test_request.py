"""``green-router request``: bytes in, bytes out, and a sentence when nothing comes."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq
from command_line import LIMIT_SECONDS, CommandLine

from green_router.commands.request import NoReply, ask
from green_router.messages.envelope import policy_of
from green_router.testing import PATIENCE

EVERY_BYTE = bytes(range(256))


@pytest.fixture
def router() -> Iterator[zmq.Socket[bytes]]:
    """A plain ROUTER on a port of the system's choice, so that a test is the server."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        socket.bind("tcp://127.0.0.1:0")
        yield socket


def asked(
    command_line: CommandLine,
    router: zmq.Socket[bytes],
    *arguments: str,
    reply: list[bytes],
    timeout: float = LIMIT_SECONDS,
    stdin: bytes = b"",
) -> tuple[list[bytes], subprocess.CompletedProcess[bytes]]:
    """Return the frames of the request that came, and what the command did; ``reply`` are all
    frames of the answer."""
    with answering(router, reply) as came:
        done = command_line.run(
            "request",
            "--timeout",
            f"{timeout:g}",
            router.last_endpoint.decode(),
            *arguments,
            stdin=stdin,
        )
    return came[0], done


@contextmanager
def answering(router: zmq.Socket[bytes], reply: list[bytes]) -> Iterator[list[list[bytes]]]:
    """Answer one request with these frames, in a thread; what came is in the list, without the
    routing id."""
    came: list[list[bytes]] = []

    def answer() -> None:
        assert router.poll(1000 * LIMIT_SECONDS)
        peer, *frames = router.recv_multipart()
        came.append(frames)
        router.send_multipart([peer, *reply])

    thread = threading.Thread(target=answer)
    thread.start()
    yield came
    thread.join(LIMIT_SECONDS)


def answered(
    command_line: CommandLine,
    router: zmq.Socket[bytes],
    *arguments: str,
    reply: list[bytes],
    stdin: bytes = b"",
) -> tuple[list[bytes], bytes]:
    """Return the body of the request that a REQ has sent, and what the command printed."""
    frames, done = asked(command_line, router, *arguments, reply=[b"", *reply], stdin=stdin)
    assert frames.pop(0) == b""
    assert (done.returncode, done.stderr) == (0, b"")
    return frames, done.stdout


@pytest.mark.parametrize(
    ("arguments", "stdin", "sent"),
    [
        (["hello"], b"", b"hello"),
        ([], b"not read", b""),
        (["-"], EVERY_BYTE, EVERY_BYTE),
        (["-"], b"", b""),
        (["--", "--timeout"], b"", b"--timeout"),
        (["gr\u00fcn"], b"", "gr\u00fcn".encode()),
    ],
)
def test_sends_its_data(
    command_line: CommandLine,
    router: zmq.Socket[bytes],
    arguments: list[str],
    stdin: bytes,
    sent: bytes,
) -> None:
    assert answered(command_line, router, *arguments, reply=[b"yes"], stdin=stdin) == (
        [sent],
        b"yes",
    )


def test_sends_several_frames(command_line: CommandLine, router: zmq.Socket[bytes]) -> None:
    assert answered(command_line, router, "put", "", "-", reply=[b"yes"], stdin=EVERY_BYTE) == (
        [b"put", b"", EVERY_BYTE],
        b"yes",
    )


def test_sends_another_envelope(command_line: CommandLine, router: zmq.Socket[bytes]) -> None:
    frames, done = asked(
        command_line,
        router,
        "--envelope",
        "marker:<IDS|MSG>",
        "one",
        "two",
        reply=[b"<IDS|MSG>", b"1", b"2"],
    )
    assert (frames, done.returncode, done.stdout, done.stderr) == (
        [b"<IDS|MSG>", b"one", b"two"],
        0,
        b"1\n2",
        b"",
    )


POLICIES = [
    ("delimiter", [b"one", b"two"], [b"", b"one", b"two"], [b"", b"1", b"2"], [b"1", b"2"]),
    ("bare", [b"one"], [b"one"], [b"1"], [b"1"]),
    ("bare", [b""], [b""], [b""], [b""]),
    ("bare", [b"", b"one"], [b"", b"one"], [b"", b"1"], [b"", b"1"]),
    ("last", [b"one"], [b"", b"one"], [b"", b"1"], [b"1"]),
    ("last", [b"hop", b"one"], [b"", b"hop", b"one"], [b"", b"hop", b"1"], [b"1"]),
    ("fixed:1", [b"one"], [b"one"], [b"1"], [b"1"]),
    ("fixed:3", [b"one", b"two"], [b"", b"", b"one", b"two"], [b"", b"", b"1"], [b"1"]),
    ("marker:--", [b"one"], [b"--", b"one"], [b"--", b"1", b"2"], [b"1", b"2"]),
]


@pytest.mark.parametrize(("policy", "body", "sent", "reply", "shown"), POLICIES)
def test_speaks_every_policy(
    router: zmq.Socket[bytes],
    policy: str,
    body: list[bytes],
    sent: list[bytes],
    reply: list[bytes],
    shown: list[bytes],
) -> None:
    with answering(router, reply) as came:
        assert ask(router.last_endpoint.decode(), body, LIMIT_SECONDS, policy_of(policy)) == shown
    assert came == [sent]


@pytest.mark.parametrize(
    ("policy", "reply"), [("last", [b"1"]), ("marker:--", [b"", b"1"]), ("fixed:3", [b"", b""])]
)
def test_says_when_a_reply_has_another_envelope(
    router: zmq.Socket[bytes], policy: str, reply: list[bytes]
) -> None:
    with answering(router, reply), pytest.raises(NoReply) as caught:
        ask(router.last_endpoint.decode(), [b"one"], LIMIT_SECONDS, policy_of(policy))
    assert f"its policy is another one than {policy}; --envelope bare prints whatever comes" in str(
        caught.value
    )


def test_says_when_a_bare_server_answers_a_req(
    command_line: CommandLine, router: zmq.Socket[bytes]
) -> None:
    """The reply is there, but libzmq drops it, and the connection: a REQ wants an empty frame
    first."""
    _, done = asked(command_line, router, "one", reply=[b"1"], timeout=PATIENCE)
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().endswith(
        "what the server answered is no reply to a REQ: it lacks the empty frame before it. Try "
        "--envelope bare\n"
    )


@pytest.mark.parametrize("policy", ["delimiter", "bare"])
def test_says_when_a_message_is_too_large(
    command_line: CommandLine, router: zmq.Socket[bytes], policy: str
) -> None:
    """The server closes the connection, and neither side is told."""
    router.maxmsgsize = 100
    router.bind("tcp://127.0.0.1:0")  # the option holds for what is bound from now on
    done = command_line.run(
        "request",
        router.last_endpoint.decode(),
        "-",
        "--envelope",
        policy,
        "--timeout",
        f"{PATIENCE:g}",
        stdin=bytes(1234),
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert (
        "the server closed the connection. One does, without a word, where a frame is larger than "
        "its max_message_bytes (the largest sent has 1,234 bytes)"
    ) in done.stderr.decode()


@pytest.mark.parametrize(
    ("reply", "printed"),
    [
        ([b"plain"], b"plain"),
        ([b""], b""),
        ([EVERY_BYTE], EVERY_BYTE),
        ([b"one", b"two"], b"one\ntwo"),
        ([EVERY_BYTE * 4096], EVERY_BYTE * 4096),
    ],
)
def test_prints_the_reply_byte_for_byte(
    command_line: CommandLine, router: zmq.Socket[bytes], reply: list[bytes], printed: bytes
) -> None:
    assert answered(command_line, router, "x", reply=reply)[1] == printed


def test_says_when_nobody_is_there(command_line: CommandLine, router: zmq.Socket[bytes]) -> None:
    endpoint = router.last_endpoint.decode()
    router.close()
    done = command_line.run("request", endpoint, "x", "--timeout", "0.2")
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode() == (
        f"Error: no reply from {endpoint} within 0.2 s: no connection was made; is a "
        "server running there?\n"
    )


@pytest.mark.parametrize(
    ("policy", "hint"),
    [
        ("delimiter", "try --envelope bare, for instance"),
        ("fixed:2", "without --envelope it is delimiter"),
    ],
)
def test_says_when_a_server_does_not_answer(
    command_line: CommandLine, router: zmq.Socket[bytes], policy: str, hint: str
) -> None:
    endpoint = router.last_endpoint.decode()
    done = command_line.run(
        "request", endpoint, "x", "--envelope", policy, "--timeout", f"{PATIENCE:g}"
    )
    assert (done.returncode, done.stdout) == (1, b"")
    assert done.stderr.decode().startswith(
        f"Error: no reply from {endpoint} within {PATIENCE:g} s: the server was reached, but did "
        "not answer. Its log may say why: the handler"
    )
    assert done.stderr.decode().endswith(
        f"or the server's envelope is another one than {policy} ({hint})\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["tcp://127.0.0.1"],
            "'tcp://127.0.0.1': Invalid argument: write tcp://host:port or ipc://path",
        ),
        (
            ["localhost:5555"],
            "'localhost:5555': Invalid argument: write tcp://host:port or ipc://path",
        ),
        (
            ["http://127.0.0.1:80"],
            "'http://127.0.0.1:80': Protocol not supported: write tcp://host:port or ipc://path",
        ),
        (
            ["inproc://here"],
            "'inproc://here': an inproc endpoint can be reached only in the server's own process",
        ),
        ([""], "'': Invalid argument: write tcp://host:port or ipc://path"),
        (["tcp://127.0.0.1:1", "x", "--timeout", "0"], "0 must be a number of seconds above 0"),
        (["tcp://127.0.0.1:1", "x", "--timeout", "nan"], "nan must be a number of seconds above 0"),
        (["tcp://127.0.0.1:1", "x", "--timeout", "soon"], "'soon' is not a valid float"),
        ([], "Missing argument 'ENDPOINT'"),
        (["tcp://127.0.0.1:1", "-", "x", "-"], "only one of them can be standard input"),
        (
            ["tcp://127.0.0.1:1", "--envelope", "guess"],
            "'guess' must be delimiter, bare, last, fixed:N or marker:TEXT",
        ),
        (
            ["tcp://127.0.0.1:1", "--envelope", "fixed:0"],
            "'fixed:0' must be delimiter, bare, last, fixed:N or marker:TEXT",
        ),
    ],
)
def test_refuses_what_is_wrong(command_line: CommandLine, arguments: list[str], words: str) -> None:
    done = command_line.run("request", *arguments)
    assert (done.returncode, done.stdout) == (2, b"")
    assert words in done.stderr.decode()
