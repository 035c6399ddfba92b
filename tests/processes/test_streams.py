"""Streams and pushes of worker processes: no faster than their clients take them, as in one
process."""

from __future__ import annotations

import time
from collections.abc import Callable

import zmq
from command_line import LIMIT_SECONDS

from .conftest import DISPATCH, Service

APPLICATION = """
import threading
from green_router import send

def items(stream):
    for number in range(40):
        yield b"%d %d " % (stream, number) + bytes(100_000)

def handle_request(request):
    kind, stream = request.data.split()
    if kind == b"push":
        for number in range(10_000):
            send(request.routing_id, b"%d" % number)
        return b"end"
    if kind == b"yield":
        return items(int(stream))
    threading.Thread(target=by_reply, args=(request, int(stream))).start()

def by_reply(request, stream):
    for item in items(stream):
        request.reply(item, final=False)
    request.reply(b"end")
"""

TIGHT = ("--send-high-water-mark", "2", "--max-parked-bytes-per-peer", "800000", "--workers", "2")


@DISPATCH
def test_a_client_that_reads_however_slowly_gets_everything(
    service: Callable[..., Service], dispatch: str
) -> None:
    """Three streams at once, of generators and of threads."""
    server = service(APPLICATION, "--dispatch", dispatch, *TIGHT)
    client = server.context.socket(zmq.DEALER)
    server.clients.append(client)
    client.linger, client.rcvhwm, client.rcvbuf, client.rcvtimeo = (
        0,
        1,
        65536,
        int(1000 * LIMIT_SECONDS),
    )
    client.connect(server.endpoint)
    asked = [b"yield 0", b"yield 1", b"thread 2"]
    for words in asked:
        client.send_multipart([b"", words])
    got = []
    while len(got) < 40 * len(asked) + 1:
        got.append(client.recv_multipart()[1][:20])
        time.sleep(0.002)
    for stream in range(len(asked)):
        numbers = [
            int(body.split()[1])
            for body in got
            if body != b"end" and int(body.split()[0]) == stream
        ]
        assert numbers == list(range(40))
    stats = server.wait_for(lambda stats: stats["sum"]["fates"]["answered"] == len(asked))
    assert stats["sum"]["events"]["lost_stream_items"] == 0


@DISPATCH
def test_a_worker_pushes_no_faster_than_the_serving_process_sends(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(
        APPLICATION, "--dispatch", dispatch, "--send-high-water-mark", "20000", "--workers", "1"
    )
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"push 0"])
    got = [client.recv_multipart()[1] for _ in range(10_001)]
    assert got == [*(b"%d" % number for number in range(10_000)), b"end"]


@DISPATCH
def test_all_streams_of_one_that_does_not_read_end_with_the_first(
    service: Callable[..., Service], dispatch: str
) -> None:
    server = service(APPLICATION, "--dispatch", dispatch, *TIGHT, "--park-timeout", "0.3")
    client = server.context.socket(zmq.DEALER)
    server.clients.append(client)
    client.linger, client.rcvhwm, client.rcvbuf = 0, 1, 65536
    client.connect(server.endpoint)
    for _ in range(20):
        client.send_multipart([b"", b"yield 0"])
    stats = server.wait_for(lambda stats: stats["sum"]["fates"]["peer_stalled"] >= 15)
    # One after the other, each would have parked two.
    assert stats["sum"]["events"]["parked"] < 32
