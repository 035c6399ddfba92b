"""Three servers behind a real HAProxy, one of them drained and replaced under load, as in an
update.

Rules of this file
  1. Clients are REQ sockets that ask again on a new connection after a second: the "lazy pirate" of
     the ZeroMQ guide. Each request has a number, and only its own reply is taken.
  2. Where HAProxy is missing, the tests are skipped, with the reason.
"""

from __future__ import annotations

import shutil
import subprocess
from contextlib import ExitStack
from pathlib import Path

import gevent
import gevent.socket
import pytest
import zmq
import zmq.green

from green_router import Server
from green_router.testing import DEADLINE, PATIENCE, assert_balanced, eventually

HAPROXY = shutil.which("haproxy", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")

pytestmark = pytest.mark.skipif(
    HAPROXY is None, reason="there is no haproxy (of Debian's package of that name)"
)

CONFIGURATION = (Path(__file__).parents[2] / "examples" / "deploy" / "haproxy.cfg").read_text(
    encoding="utf-8"
)

SERVERS = {"one": "10.0.0.1:5555", "two": "10.0.0.2:5555", "three": "10.0.0.3:5555"}
"""As they are called there, and their addresses."""

ASK_AGAIN_AFTER = 1.0


class Balanced:
    """HAProxy with three servers of this process behind it."""

    def __init__(self, directory, stack):
        self.directory, self.stack = directory, stack
        self.servers = {name: self.serve("tcp://127.0.0.1:0") for name in SERVERS}
        with gevent.socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        text = CONFIGURATION.replace("/run/haproxy", str(directory)).replace(
            " :5555\n", f" 127.0.0.1:{port}\n"
        )
        for name, server in self.servers.items():
            text = text.replace(
                f"{SERVERS[name]} check", f"{server.endpoints[0][6:]} check inter 200ms"
            )
        file = directory / "haproxy.cfg"
        file.write_text(text)
        process = subprocess.Popen(
            [str(HAPROXY), "-db", "-f", str(file)], stderr=subprocess.DEVNULL
        )
        stack.callback(lambda: (process.kill(), process.wait()))
        self.endpoint = f"tcp://127.0.0.1:{port}"
        eventually(lambda: "three" in self.tell("show stat"))

    def serve(self, endpoint):
        server = Server(handle_request, linger=0.2)
        server.bind(endpoint)
        server.start()
        self.stack.callback(server.stop, 0)
        return server

    def tell(self, command):
        """Say something to HAProxy, and return the answer; empty while it does not listen."""
        with gevent.socket.socket(gevent.socket.AF_UNIX) as admin:
            try:
                admin.connect(str(self.directory / "admin.sock"))
            except OSError:
                return ""
            admin.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: admin.recv(65536), b"")).decode()

    def drain(self, name):
        assert self.tell(f"set server servers/{name} state drain").strip() == ""

    def ready(self, name):
        assert self.tell(f"set server servers/{name} state ready").strip() == ""


def handle_request(request):
    gevent.sleep(0.003)
    return request.data


class Clients:
    """Some that ask, and ask again."""

    def __init__(self, endpoint, number):
        self.answered = self.retries = 0
        self._going, self._context, self._endpoint = True, zmq.green.Context(), endpoint
        self._greenlets = [gevent.spawn(self._run, index) for index in range(number)]

    def _connected(self):
        socket = self._context.socket(zmq.REQ)
        socket.linger = 0
        socket.connect(self._endpoint)
        return socket

    def _run(self, index):
        socket, number = self._connected(), 0
        while self._going:
            data = b"%d %d" % (index, number)
            socket.send(data)
            while not socket.poll(int(1000 * ASK_AGAIN_AFTER * PATIENCE)):
                self.retries += 1
                socket.close()
                socket = self._connected()
                socket.send(data)
            assert socket.recv() == data
            number += 1
            self.answered += 1
        socket.close()

    def more(self, number):
        wanted = self.answered + number
        eventually(
            lambda: self.answered >= wanted or any(greenlet.ready() for greenlet in self._greenlets)
        )

    def end(self):
        """Every request has its reply then."""
        self._going = False
        with gevent.Timeout(DEADLINE):
            gevent.joinall(self._greenlets, raise_error=True)
        self._context.term()


@pytest.fixture
def balanced(tmp_path):
    with ExitStack() as stack:
        yield Balanced(tmp_path, stack)


def test_one_is_drained_and_replaced_under_load_and_nothing_is_lost(balanced):
    clients = Clients(balanced.endpoint, 12)
    clients.more(100)
    old = balanced.servers["one"]
    balanced.drain("one")
    had = old.stats()["received"]
    clients.more(200)
    assert old.stats()["received"] > had, "connections that are there stay where they are"
    assert clients.retries == 0
    endpoint = old.endpoints[0]
    old.stop()
    assert_balanced(old)
    assert old.stats()["fates"]["abandoned"] == 0
    clients.more(200)
    new = balanced.serve(endpoint)
    balanced.ready("one")
    eventually(
        lambda: (
            ",UP,"
            in next(
                line
                for line in balanced.tell("show stat").splitlines()
                if line.startswith("servers,one")
            )
        )
    )
    clients.more(100)
    late = Clients(balanced.endpoint, 4)
    late.more(50)
    assert new.stats()["received"] > 0, "new connections go to the one that has the fewest"
    for each in (clients, late):
        each.end()
    assert clients.retries <= 12, "one for each client at the most"
