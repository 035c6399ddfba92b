"""SIGTERM under load."""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from contextlib import suppress

import pytest
import zmq
from processes_apart import NotServing, check, sized, until

from green_router.testing import PATIENCE

MB = 1_000_000
GRACE = 10.0
CLIENTS = 10
EXIT_SECONDS = 0.05
"""From the signal to the handler of it, and from the end of serve_forever to the last line."""


class Asking(threading.Thread):
    """A client that asks on and on, and counts what it gets."""

    def __init__(self, endpoint: str, at_first: int, request: bytes, pause: float) -> None:
        super().__init__()
        self.endpoint, self.at_first, self.request, self.pause = endpoint, at_first, request, pause
        self.replies = self.bytes = 0
        self.going = True

    def run(self) -> None:
        context = zmq.Context()
        socket = context.socket(zmq.DEALER)
        socket.linger = 0
        socket.connect(self.endpoint)
        for _ in range(self.at_first):
            socket.send_multipart([b"", self.request])
        last = 0.0
        while self.going:
            if time.monotonic() > last + self.pause:
                last = time.monotonic()
                with suppress(zmq.Again):
                    socket.send_multipart([b"", self.request], zmq.NOBLOCK)
            while socket.poll(5):
                self.bytes += len(socket.recv_multipart()[-1])
                self.replies += 1
        socket.close()
        context.term()


@pytest.mark.parametrize(
    ("transport", "size"), [("tcp", 100), ("ipc", 100), ("tcp", MB), ("ipc", MB)]
)
def test_every_request_that_was_taken_is_answered(scene, measured, tmp_path, transport, size):
    """... and its reply arrives: 1,000 in flight, clients that keep sending, SNDHWM 1."""
    in_flight = 1000 if size < MB else sized(100, 1000)
    endpoint = "tcp://127.0.0.1:0" if transport == "tcp" else f"ipc://{tmp_path}/s"
    server = scene.server(
        endpoint,
        grace=GRACE * PATIENCE,
        send_high_water_mark=1,
        max_in_flight=in_flight,
        max_parked_bytes_per_peer=2000 * MB,
        max_parked_bytes=4000 * MB,
        linger=5.0,
    )
    # Each handler takes another time, as handlers do.
    clients = [
        Asking(
            server.endpoint,
            in_flight // CLIENTS,
            b"size %d %.3f 1" % (size, random.uniform(0.3, 1.0)),
            0.005,
        )
        for _ in range(CLIENTS)
    ]
    for client in clients:
        client.start()
    try:
        until(lambda: server.stats()["in_flight"] > 0.9 * in_flight)
        begun = time.monotonic()
        final = server.stop()
        seconds = time.monotonic() - begun
        until(lambda: sum(client.replies for client in clients) >= final["received"])
    finally:
        for client in clients:
            client.going = False
        for client in clients:
            client.join()
    fates = {name: count for name, count in final["fates"].items() if count}
    assert fates == {"answered": final["received"]}
    assert sum(client.replies for client in clients) == final["received"]
    assert sum(client.bytes for client in clients) == final["received"] * size
    assert seconds < GRACE * PATIENCE + 1
    if transport == "ipc":
        assert not os.path.exists(tmp_path / "s")
    measured(
        f"SIGTERM, {in_flight:,} in flight over {transport}, replies of {size:,} bytes",
        f"all {final['received']:,} answered, ended after {seconds:.2f} s",
    )


@pytest.mark.parametrize("stuck", ["sleep 600", "keep", "stubborn swallow", "a frozen client"])
def test_the_time_is_bounded_by_grace(scene, measured, stuck):
    """What will not end is abandoned at ``grace``, and a client that does not read is not waited
    for."""
    grace = 0.5
    server, noise = scene.server(grace=grace, send_high_water_mark=2), scene.noise()
    count = sized(100, 1000)
    words = "size 300000" if stuck == "a frozen client" else stuck
    clients = scene.asker(server, 1, count, words)
    if stuck == "a frozen client":
        clients.signal(signal.SIGSTOP)
        until(lambda: server.stats()["parked"])
    noise()
    begun = time.monotonic()
    server.signal(signal.SIGTERM)
    final = check(server.next())  # it is the last thing that the program does
    seconds = time.monotonic() - begun
    assert server.ends() == 0
    measured(f"SIGTERM with grace = {grace:g}, {stuck}", f"ended after {seconds:.2f} s")
    assert final["fates"]["abandoned"] > 0
    assert seconds < grace + 1 + EXIT_SECONDS * PATIENCE + noise()


def test_ipc_paths(scene, tmp_path):
    """One in use by a live server is refused, a stale one is taken over, only our own file is
    removed."""
    path = tmp_path / "s"
    first = scene.server(f"ipc://{path}")
    with pytest.raises(NotServing, match="exit code 1"):
        scene.server(f"ipc://{path}")
    client = scene.client(first.endpoint)
    client.send_multipart([b"", b"echo"])
    assert client.recv_multipart() == [b"", b"echo"]
    first.kill()
    assert path.exists()
    second = scene.server(f"ipc://{path}")
    client = scene.client(second.endpoint)
    client.send_multipart([b"", b"echo"])
    assert client.recv_multipart() == [b"", b"echo"]
    path.unlink()
    path.write_text("somebody else's")
    second.stop()
    assert path.read_text() == "somebody else's"
