"""Golden tests: real clients of every kind, through real proxies, against every envelope policy."""

from __future__ import annotations

import sys

import gevent
import pytest
import zmq
import zmq.green

from green_router.testing import PATIENCE, eventually, settled

TRANSPORTS = ["tcp://127.0.0.1:0", "tcp://[::1]:0", "ipc", "inproc://golden"]


def req(client):
    client.send_multipart([b"one", b"two"])
    return client.recv_multipart()


def raw(*frames):
    """A DEALER that sends exactly these frames; the reply's frames as they come."""

    def talk(client):
        client.send_multipart(list(frames))
        return client.recv_multipart()

    return talk


CASES = [
    # envelope, socket, options, conversation, the body that the handler sees, what the client gets
    ("delimiter", zmq.REQ, {}, req, [b"one", b"two"], [b"ONE", b"TWO"]),
    (
        "delimiter",
        zmq.REQ,
        {"req_correlate": 1, "req_relaxed": 1},
        req,
        [b"one", b"two"],
        [b"ONE", b"TWO"],
    ),
    ("delimiter", zmq.DEALER, {}, raw(b"", b"one"), [b"one"], [b"", b"ONE"]),
    ("delimiter", zmq.DEALER, {}, raw(b"", b"", b""), [b"", b""], [b"", b"", b""]),
    (
        "delimiter",
        zmq.DEALER,
        {},
        raw(b"request 7", b"", b"one"),
        [b"one"],
        [b"request 7", b"", b"ONE"],
    ),
    (
        "delimiter",
        zmq.DEALER,
        {},
        raw(b"hop", b"hop2", b"", b"one", b""),
        [b"one", b""],
        [b"hop", b"hop2", b"", b"ONE", b""],
    ),
    ("bare", zmq.DEALER, {}, raw(b"one"), [b"one"], [b"ONE"]),
    ("bare", zmq.DEALER, {}, raw(b""), [b""], [b""]),
    ("bare", zmq.DEALER, {}, raw(b"", b"one"), [b"", b"one"], [b"", b"ONE"]),
    ("last", zmq.REQ, {}, lambda c: (c.send(b"one"), c.recv_multipart())[1], [b"one"], [b"ONE"]),
    ("last", zmq.DEALER, {}, raw(b"a", b"b", b"one"), [b"one"], [b"a", b"b", b"ONE"]),
    (
        "fixed:3",
        zmq.DEALER,
        {},
        raw(b"id", b"type", b"one", b"two"),
        [b"one", b"two"],
        [b"id", b"type", b"ONE", b"TWO"],
    ),
    ("fixed:1", zmq.DEALER, {}, raw(b"one"), [b"one"], [b"ONE"]),
    (
        "marker:<IDS|MSG>",
        zmq.DEALER,
        {},
        raw(b"a", b"", b"<IDS|MSG>", b"one"),
        [b"one"],
        [b"a", b"", b"<IDS|MSG>", b"ONE"],
    ),
]


def upper(request):
    return [frame.upper() for frame in request.body]


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("envelope", "kind", "options", "talk", "body", "reply"),
    CASES,
    ids=[f"{c[0]}-{i}" for i, c in enumerate(CASES)],
)
def test_golden(serve, tmp_path, transport, envelope, kind, options, talk, body, reply):
    seen = []
    server = serve(
        lambda r: seen.append(r) or upper(r),
        transport if transport != "ipc" else f"ipc://{tmp_path}/s",
        envelope=envelope,
    )
    client = server.client(kind, ipv6=int("::1" in transport), **options)
    assert talk(client) == reply
    request = seen[0]
    assert request.body == body
    assert request.data == body[0]
    assert request.envelope + request.body == request.frames
    if transport == "ipc":
        assert request.peer_address.startswith("localhost:") or not sys.platform.startswith("linux")
    else:
        assert request.peer_address == {"tcp://[": "::1", "tcp://1": "127.0.0.1"}.get(transport[:7])
    assert request.user_id is None
    assert settled(server, "answered") == 1


def test_a_router_as_client(serve):
    server = serve(upper)
    client = server.client(zmq.ROUTER, router_mandatory=1, probe_router=0)
    # a ROUTER must know its peer's id: the server pushes to it first, having been greeted by its
    # probe
    client.close()
    client = zmq.green.Context.shadow(server.context.underlying).socket(zmq.ROUTER)
    client.linger = 0
    client.connect_rid = b"server"
    client.connect(server.endpoints[0])
    client.send_multipart([b"server", b"", b"one"])
    assert client.recv_multipart() == [b"server", b"", b"ONE"]
    client.close()


@pytest.mark.parametrize(
    ("kind", "first"), [(zmq.REQ, []), (zmq.DEALER, [b""])], ids=["REQ", "DEALER"]
)
def test_two_hops_through_proxies(serve, kind, first):
    """client -> ROUTER-DEALER proxy -> ROUTER-DEALER proxy -> server; the envelope is three routing
    ids."""
    seen = []
    server = serve(lambda r: seen.append(r) or upper(r))
    context = zmq.green.Context.shadow(server.context.underlying)
    opened, pumps, endpoint = [], [], server.endpoints[0]

    def pump(source, sink):
        while True:
            sink.send_multipart(source.recv_multipart())

    for _ in range(2):
        back, front = context.socket(zmq.DEALER), context.socket(zmq.ROUTER)
        back.linger = front.linger = 0
        back.connect(endpoint)
        front.bind("tcp://127.0.0.1:0")
        endpoint = front.last_endpoint.decode()
        opened += [back, front]
        pumps += [gevent.spawn(pump, front, back), gevent.spawn(pump, back, front)]
    client = context.socket(kind)
    client.linger = 0
    client.connect(endpoint)
    opened.append(client)
    for number in range(10):
        client.send_multipart([*first, b"one", b"%d" % number])
        assert client.recv_multipart() == [*first, b"ONE", b"%d" % number]
    assert len(seen[0].envelope) == 4
    gevent.killall(pumps)
    for socket in opened:
        socket.close()


def test_a_probe_between_messages_of_others_is_only_a_probe(serve):
    """[id, b""] is followed, in the socket, by the next message's routing id: it must not become
    this one's body."""
    server = serve(upper)
    prober, other = server.client(zmq.DEALER), server.client(zmq.DEALER, routing_id=b"other")
    for _ in range(50):
        prober.send(b"")
        other.send_multipart([b"", b"one"])
    for _ in range(50):
        assert other.recv_multipart() == [b"", b"ONE"]
    eventually(lambda: settled(server, "malformed") == 50)
    assert settled(server, "answered") == 50


@pytest.mark.parametrize(
    ("envelope", "received"),
    [
        ("delimiter", [b"", b"news"]),
        ("bare", [b"news"]),
        ("last", [b"", b"news"]),
        ("fixed:3", [b"", b"", b"news"]),
        ("marker:X", [b"X", b"news"]),
    ],
)
def test_a_push_has_the_delimiter_of_the_policy(serve, envelope, received):
    server = serve(lambda r: b"ok", envelope=envelope)
    client = server.client(zmq.DEALER, routing_id=b"me")
    client.send_multipart([*received[:-1], b"hello"])
    assert client.recv_multipart()[-1] == b"ok"
    server.send(b"me", b"news")
    assert client.recv_multipart() == received
    server.send(b"me", b"a", bytearray(b"b"))
    assert client.recv_multipart() == [*received[:-1], b"a", b"b"]
    server.send(b"nobody", b"x")
    eventually(lambda: server.stats()["events"]["lost_pushes"] == 1)
    assert server.stats()["events"]["pushes"] == 2


@pytest.mark.parametrize("endpoint", ["tcp://127.0.0.1:0", "inproc://named"])
def test_a_client_that_is_a_router_addresses_the_server_by_name(serve, endpoint):
    """It cannot know another name: a server that has none of its own gets one by chance, in each
    client another."""
    server = serve(lambda request: request.data.upper(), endpoint, routing_id=b"server")
    client = server.client(zmq.ROUTER, router_mandatory=1)
    with gevent.Timeout(10 * PATIENCE):
        while True:
            try:
                client.send_multipart([b"server", b"", b"hello"])
                break
            except zmq.ZMQError as error:  # its greeting has not come yet
                assert error.errno == zmq.EHOSTUNREACH  # noqa: PT017
                gevent.sleep(0.001)
        assert client.recv_multipart() == [b"server", b"", b"HELLO"]
    assert server.ask(b"and others") == b"AND OTHERS"
