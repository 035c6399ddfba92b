"""``green-router request``: one request by a plain REQ socket, its reply on standard output.

Rules of this file
  1. Bytes in, bytes out: nothing is decoded, and nothing is added to a reply that is not shown on a terminal.
  2. It ends in time, whatever the other side does, and says how far it came: no connection, or no reply.
"""
from __future__ import annotations

import os
import sys

import click

from .options import duration


def ask(endpoint: str, data: bytes, timeout: float) -> list[bytes]:
    """Send one request and wait for its reply.

    **Blocks** the OS thread, for ``timeout`` seconds at most.

    Args:
        endpoint: where the server is: ``tcp://host:port`` or ``ipc://path``.
        data: the one body frame.
        timeout: seconds, above 0.
    Returns:
        The frames of the reply's body.
    Raises:
        ValueError: the endpoint cannot be connected to.
        TimeoutError: no reply came; the text says whether a connection did.
    """
    import zmq

    if endpoint.startswith("inproc://"):
        raise ValueError("an inproc endpoint can be reached only in the server's own process")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    client = context.socket(zmq.REQ)
    monitor = client.get_monitor_socket(zmq.EVENT_HANDSHAKE_SUCCEEDED)
    try:
        try:
            client.connect(endpoint)
        except zmq.ZMQError as error:
            raise ValueError(f"{zmq.strerror(error.errno or 0)}: write tcp://host:port or ipc://path") from None
        client.send(data)
        if client.poll(int(timeout * 1000) or 1):
            return client.recv_multipart()
        raise TimeoutError(f"no reply from {endpoint} within {timeout:g} s: " + (
            "the server was reached, but did not answer" if monitor.poll(0) else
            "no connection was made; is a server running there?"))
    finally:
        client.disable_monitor()
        context.destroy(linger=0)


@click.command("request", short_help="Send one request and print its reply.")
@click.argument("endpoint")
@click.argument("data", default="")
@click.option("--timeout", type=float, callback=duration, metavar="SECONDS", default=5.0, show_default=True,
              help="How long to wait for the reply.")
def command(endpoint: str, data: str, timeout: float) -> None:
    """Send DATA to ENDPOINT and print the reply.

    DATA is one frame, empty when left out; - reads it from standard input. The reply is printed byte for byte (several
    frames one to a line). Exit code 1 when none came in time.

    \b
    green-router request tcp://127.0.0.1:5555 hello
    green-router request tcp://127.0.0.1:5555 - < picture.jpg > answer.bin
    """
    body = sys.stdin.buffer.read() if data == "-" else os.fsencode(data)
    try:
        frames = ask(endpoint, body, timeout)
    except ValueError as error:
        raise click.BadParameter(f"{endpoint!r}: {error}", param_hint="ENDPOINT") from None
    except TimeoutError as error:
        raise click.ClickException(str(error)) from None
    reply = b"\n".join(frames)
    # On a terminal the prompt would follow the reply on its line.
    ending = b"\n" if sys.stdout.isatty() and not reply.endswith(b"\n") else b""
    sys.stdout.buffer.write(reply + ending)
    sys.stdout.buffer.flush()
