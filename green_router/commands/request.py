"""``green-router request``: one request, its reply on standard output.

Rules of this file
  1. Bytes in, bytes out: nothing is decoded, and nothing is added to a reply that is not shown on a
     terminal.
  2. It ends in time, whatever the other side does, and says how far it came, and what may be the
     reason: libzmq tells a client nothing of a message that its server has dropped.
  3. A REQ speaks to a server of the policy ``delimiter``, as most clients do; to others a DEALER
     does, which sends the envelope that the server itself would begin a message with.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from ..errors import ConfigError
from ..messages.envelope import EnvelopePolicy, delimiter
from ..settings import SETTINGS
from .options import duration_option

if TYPE_CHECKING:
    import zmq

REQ_POLICY = delimiter()


class NoReply(Exception):
    """Nothing came that is a reply; the text says why, as far as one can know."""


def ask(
    endpoint: str, body: list[bytes], timeout: float, policy: EnvelopePolicy = REQ_POLICY
) -> list[bytes]:
    """Send one request and wait for its reply.

    **Blocks** the OS thread, for ``timeout`` seconds at most.

    Args:
        endpoint: where the server is: ``tcp://host:port`` or ``ipc://path``.
        body: the frames, at least one. With the policy ``last`` all but one of them belong to the
            envelope.
        timeout: seconds, above 0.
        policy: the server's.
    Returns:
        The frames of the reply's body.
    Raises:
        ValueError: the endpoint cannot be connected to.
        NoReply: none came in time, or not with the envelope that was sent.
    """
    import zmq

    if endpoint.startswith("inproc://"):
        raise ValueError("an inproc endpoint can be reached only in the server's own process")
    by_req = policy == REQ_POLICY
    sent = body if by_req else [*policy.closing, *body]
    envelope = [] if by_req else sent[: policy.length([b"the routing id", *sent]) - 1]
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = context.socket(zmq.REQ if by_req else zmq.DEALER)
    monitor = client.get_monitor_socket(
        zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED | zmq.EVENT_CONNECT_RETRIED
    )
    try:
        try:
            client.connect(endpoint)
        except zmq.ZMQError as error:
            raise ValueError(
                f"{zmq.strerror(error.errno or 0)}: write tcp://host:port or ipc://path"
            ) from None
        client.send_multipart(sent)
        if not client.poll(int(timeout * 1000) or 1):
            raise NoReply(
                f"no reply from {endpoint} within {timeout:g} s: "
                f"{_why(monitor, policy, max(map(len, sent)))}"
            )
        reply = client.recv_multipart()
    finally:
        client.disable_monitor()
        context.destroy(linger=0)
    if reply[: len(envelope)] != envelope or len(reply) == len(envelope):
        raise NoReply(
            f"the reply from {endpoint} ({len(reply)} frames of "
            f"{', '.join(map(str, map(len, reply)))} bytes) does not begin with the envelope that "
            f"was sent: its policy is another one than {policy.name}; --envelope bare prints "
            "whatever comes"
        )
    return reply[len(envelope) :]


def _why(monitor: zmq.Socket[bytes], policy: EnvelopePolicy, largest: int) -> str:
    """Guess the reason why no reply came, from what happened to the connection."""
    import zmq
    from zmq.utils.monitor import recv_monitor_message

    reached = broken = closed = False
    while monitor.poll(0):
        event = recv_monitor_message(monitor)["event"]
        reached |= event == zmq.EVENT_HANDSHAKE_SUCCEEDED
        broken |= event == zmq.EVENT_DISCONNECTED
        closed |= broken and event == zmq.EVENT_CONNECT_RETRIED
    if not reached:
        return "no connection was made; is a server running there?"
    if broken and not closed and policy == REQ_POLICY:  # by us: libzmq does not try again then
        return (
            "what the server answered is no reply to a REQ: it lacks the empty frame before it. "
            "Try --envelope bare"
        )
    if broken:
        return (
            "the server closed the connection. One does, without a word, where a frame is larger "
            f"than its max_message_bytes (the largest sent has {largest:,} bytes); or it has ended"
        )
    other = (
        "try --envelope bare, for instance"
        if policy == REQ_POLICY
        else "without --envelope it is delimiter"
    )
    return (
        "the server was reached, but did not answer. Its log may say why: the handler takes "
        "longer, failed, or chose not to; or the server's envelope is another one than "
        f"{policy.name} ({other})"
    )


def _policy(ctx: click.Context, param: click.Parameter, text: str) -> EnvelopePolicy:
    try:
        policy: EnvelopePolicy = SETTINGS["envelope"].parse(text)
    except ConfigError:
        raise click.BadParameter(
            f"{text!r} must be delimiter, bare, last, fixed:N or marker:TEXT"
        ) from None
    return policy


@click.command("request", short_help="Send one request and print its reply.")
@click.argument("endpoint")
@click.argument("data", nargs=-1)
@click.option(
    "--envelope",
    metavar="POLICY",
    callback=_policy,
    default=REQ_POLICY.name,
    show_default=True,
    help="The server's: delimiter, bare, last, fixed:N or marker:TEXT.",
)
@duration_option("--timeout", 5.0, "How long to wait for the reply.")
def command(endpoint: str, data: tuple[str, ...], envelope: EnvelopePolicy, timeout: float) -> None:
    """Send DATA to ENDPOINT and print the reply.

    Each DATA is one frame of the body; none is one empty frame, and - is read from standard input.
    The reply's body is printed byte for byte (several frames one to a line). Exit code 1 when none
    came in time.

    By default a REQ asks. For a server of another envelope a DEALER does, and what stands before
    DATA is nothing (bare), an empty frame (last), N-1 of them (fixed:N) or TEXT (marker:TEXT). With
    bare, what you write is all that is sent, and all that comes is printed.

    \b
    green-router request tcp://127.0.0.1:5555 hello
    green-router request tcp://127.0.0.1:5555 put name - < picture.jpg
    green-router request --envelope bare tcp://127.0.0.1:5555 hello
    """
    if data.count("-") > 1:
        raise click.BadParameter("only one of them can be standard input", param_hint="DATA")
    body = [sys.stdin.buffer.read() if word == "-" else os.fsencode(word) for word in data or ("",)]
    try:
        frames = ask(endpoint, body, timeout, envelope)
    except ValueError as error:
        raise click.BadParameter(f"{endpoint!r}: {error}", param_hint="ENDPOINT") from None
    except NoReply as error:
        raise click.ClickException(str(error)) from None
    reply = b"\n".join(frames)
    # On a terminal the prompt would follow the reply on its line.
    ending = b"\n" if sys.stdout.isatty() and not reply.endswith(b"\n") else b""
    sys.stdout.buffer.write(reply + ending)
    sys.stdout.buffer.flush()
