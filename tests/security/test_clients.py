"""Clients of other makes, and peers that are none."""

from __future__ import annotations

import ctypes.util
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import gevent.threadpool
import pytest
import zmq
from key_pairs import KeyPairs

from green_router.testing import DEADLINE, RunningServer, eventually

Serve = Callable[..., RunningServer]

CZMQ_CLIENT = Path(__file__).parent.parent / "programs" / "czmq_client.py"

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"
RAW = 1000 if FULL else 100
"""Connections that are none of ZeroMQ's."""


@pytest.mark.skipif(
    ctypes.util.find_library("czmq") is None, reason="czmq is not installed (Debian's libczmq4)"
)
def test_a_client_of_czmq_reads_our_key_files(serve: Serve, keys: KeyPairs) -> None:
    keys.add("carol")
    certificate = keys.directory.parent / "clients" / "carol.key"
    certificate.write_bytes((keys.directory / "carol.key").read_bytes())
    server = serve(lambda request: f"{request.user_id}: ".encode() + request.data, **keys.settings)
    command = [
        sys.executable,
        str(CZMQ_CLIENT),
        server.endpoints[0],
        str(certificate),
        keys.server_public,
        "one",
        "two",
    ]
    done = gevent.get_hub().threadpool.apply(
        subprocess.run, (command,), {"capture_output": True, "text": True, "timeout": DEADLINE}
    )
    assert (done.stdout, done.stderr) == ("carol: one\ncarol: two\n", "")


def test_a_flood_of_raw_connections_reaches_no_handler_and_holds_up_nobody(
    serve: Serve, keys: KeyPairs
) -> None:
    seen: list[bytes] = []
    alice = keys.add("alice")
    server = serve(lambda request: seen.append(request.data) or b"done", **keys.settings)
    client = server.client(zmq.REQ, **alice)
    host, port = server.endpoints[0].removeprefix("tcp://").split(":")
    with ExitStack() as stack:
        for number in range(RAW):
            raw = stack.enter_context(socket.create_connection((host, int(port)), DEADLINE))
            raw.sendall(
                os.urandom(64) if number % 2 else b"\xff\0\0\0\0\0\0\0\1\x7f" + os.urandom(54)
            )
            if number % (RAW // 10) == 0:
                client.send(b"%d" % number)
                assert client.recv() == b"done"
        eventually(lambda: sum(server.stats()["auth_failures"].values()) >= RAW // 2)
    client.send(b"last")
    assert client.recv() == b"done"
    assert len(seen) == 11
    assert server.stats()["received"] == 11
