"""A proxy with CURVE on both sides: clients and servers have keys of their own, and neither open
the other's door."""

from __future__ import annotations

from contextlib import ExitStack

import gevent
import pytest
import zmq.green

from green_router import ConfigError, Server
from green_router.proxy.service import ProxyService
from green_router.security.certificates import make_pairs, read
from green_router.settings import Settings
from green_router.testing import DEADLINE, PATIENCE, eventually

ANY = ("tcp://127.0.0.1:0",)

pytestmark = pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")


class Secured:
    """A proxy, key pairs for everybody, and who connects with them."""

    def __init__(self, directory, stack):
        self.directory, self.stack = directory, stack
        for name in ("clients", "servers"):
            (directory / name).mkdir()
        self.keys = {
            name: make_pairs(str(directory / "all"), [name], {})
            for name in ("proxy", "client", "server")
        }
        for name in ("client", "server"):
            public = directory / "all" / f"{name}.key"
            (directory / f"{name}s" / f"{name}.key").write_text(public.read_text())
        settings = {"curve_secret_key": self.keys["proxy"][1], "linger": 0.0}
        self.service = ProxyService(
            ANY,
            ANY,
            False,
            Settings(**settings, authorized_keys=str(directory / "clients")),
            Settings(**settings, authorized_keys=str(directory / "servers")),
        )
        greenlet = gevent.spawn(self.service._proxy.run)
        stack.callback(
            lambda: (
                self.service._proxy.end(),
                greenlet.join(DEADLINE),
                self.service._closing.close(),
            )
        )

    def server(self, **settings):
        server = Server(lambda request: request.data.upper(), linger=0.2, **settings)
        server.connect(self.service.backend[0])
        server.start()
        self.stack.callback(server.stop, 0)
        return server

    def client(self, name):
        context = zmq.green.Context()
        self.stack.callback(context.destroy, 0)
        socket = context.socket(zmq.REQ)
        pair = read(self.keys[name][1])
        socket.curve_serverkey = read(self.keys["proxy"][0]).public
        socket.curve_publickey, socket.curve_secretkey = pair.public, pair.secret.reveal()
        socket.connect(self.service.endpoints[0])
        return socket

    @property
    def workers(self):
        return self.service.stats()["proxy"]["workers"]


@pytest.fixture
def secured(tmp_path):
    with ExitStack() as stack:
        yield Secured(tmp_path, stack)


def test_whoever_has_the_right_key_is_served(secured):
    secured.server(proxy_key=secured.keys["proxy"][0], proxy_secret_key=secured.keys["server"][1])
    client = secured.client("client")
    client.send(b"hello")
    assert client.poll(int(1000 * DEADLINE))
    assert client.recv() == b"HELLO"


@pytest.mark.parametrize(
    "keys", [{}, {"proxy_secret_key": "client"}], ids=["of its own", "of a client"]
)
def test_a_server_with_another_key_gets_nothing(secured, keys):
    named = {setting: secured.keys[name][1] for setting, name in keys.items()}
    secured.server(proxy_key=secured.keys["proxy"][0], **named)
    eventually(lambda: secured.service._access[1].snapshot())
    assert not secured.workers


def test_a_server_without_keys_gets_nothing(secured):
    secured.server()
    gevent.sleep(0.3 * PATIENCE)
    assert not secured.workers


def test_a_servers_key_is_no_clients_key(secured):
    client = secured.client("server")
    client.send(b"hello")
    eventually(lambda: secured.service._access[0].snapshot())
    assert secured.service.stats()["proxy"]["requests"] == 0


def test_a_server_with_clients_of_its_own_beside_a_proxy_with_curve(secured):
    server = Server(
        lambda request: request.data.upper(),
        linger=0.2,
        proxy_key=secured.keys["proxy"][0],
        proxy_secret_key=secured.keys["server"][1],
    )
    server.bind(*ANY)
    server.connect(secured.service.backend[0])
    server.start()
    secured.stack.callback(server.stop, 0)
    server.bind("tcp://127.0.0.1:*")  # after it has connected
    context = zmq.green.Context()
    secured.stack.callback(context.destroy, 0)
    for endpoint in server.endpoints:
        client = context.socket(zmq.REQ)
        client.connect(endpoint)
        client.send(b"hello")
        assert client.poll(int(1000 * DEADLINE)), endpoint
        assert client.recv() == b"HELLO"
    eventually(lambda: secured.workers)


def test_keys_that_cannot_be_read_are_told_at_once(tmp_path):
    for settings, told in (
        ({"proxy_key": str(tmp_path / "none.key")}, "proxy_key"),
        ({"proxy_secret_key": b"x" * 32}, "proxy_key"),
    ):
        with pytest.raises(ConfigError, match=told):
            Server(lambda request: None, **settings).connect("tcp://127.0.0.1:5556")
