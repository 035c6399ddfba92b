"""A proxy with servers that come, go and die, while requests flow."""

from __future__ import annotations

import gevent
import pytest
import zmq
import zmq.green
from gevent.event import Event

from green_router import ConfigError, Server
from green_router.errors import BindError, StateError
from green_router.testing import DEADLINE, assert_balanced, eventually


def upper(request):
    return request.data.upper()


def receive(socket):
    with gevent.Timeout(DEADLINE):
        return socket.recv_multipart()


@pytest.mark.parametrize("kind", [zmq.REQ, zmq.DEALER])
def test_a_request_goes_and_a_reply_comes(place, kind):
    place.server(upper)
    client = place.client(kind)
    client.send_multipart([b"hello"] if kind == zmq.REQ else [b"", b"hello"])
    assert receive(client)[-1] == b"HELLO"


def test_clients_of_other_policies(place):
    place.server(lambda request: [request.body[0], b"and more"], envelope="fixed:2")
    client = place.client()
    client.send_multipart([b"a", b"b"])
    assert receive(client) == [b"a", b"and more"]


def test_an_envelope_without_room_for_the_client_is_refused():
    for policy in ("bare", "fixed:1"):
        with pytest.raises(ConfigError, match="fixed:2"):
            Server(upper, envelope=policy).connect("tcp://127.0.0.1:5556")
    with pytest.raises(ConfigError, match="routing_id"):
        Server(upper, routing_id=b"me").connect("tcp://127.0.0.1:5556")


@pytest.mark.parametrize(
    "endpoint",
    [
        "tcp://*:5556",
        "tcp://broker:0",
        "tcp://broker:*",
        "tcp://broker",
        "inproc://x",
        "fd://3",
        "ipc://",
        "nonsense",
    ],
)
def test_what_one_cannot_connect_to_is_refused(endpoint):
    with pytest.raises(BindError):
        Server(upper).connect(endpoint)


def test_connect_comes_before_start(place):
    server = place.server(upper)
    with pytest.raises(StateError):
        server.connect(place.backend)


def test_clients_of_its_own_beside_those_of_a_proxy(place):
    server = Server(upper, linger=0)
    server.bind("tcp://127.0.0.1:0")
    server.connect(place.backend)
    server.start()
    place.stack.callback(server.stop, 0)
    direct = place.clients.socket(zmq.REQ)
    direct.connect(server.endpoints[0])
    through = place.client(zmq.REQ)
    for client in (direct, through):
        client.send(b"hello")
        assert receive(client) == [b"HELLO"]
    assert_balanced(server)
    assert server.stats()["received"] == 2


def test_a_stream_and_silence(place):
    def parts():
        yield from (b"1", b"2", b"3")

    server = place.server(lambda request: parts() if request.data == b"stream" else None)
    client = place.client()
    client.send_multipart([b"", b"silence"])
    client.send_multipart([b"", b"stream"])
    assert [receive(client)[-1] for _ in range(3)] == [b"1", b"2", b"3"]
    eventually(lambda: server.stats()["fates"]["no_reply"] == 1)
    eventually(lambda: place.workers[0]["in_hand"] == 0)


def test_no_more_than_the_window_is_in_hand(place):
    """The others wait at the proxy, where the next server that comes takes them."""
    gate = Event()
    blocked = place.server(lambda request: gate.wait() and b"late", proxy_window=5)
    client = place.client()
    for _ in range(40):
        client.send_multipart([b"", b"x"])
    eventually(lambda: blocked.stats()["received"] == 5)
    assert place.workers[0]["in_hand"] == 5
    place.server(upper)
    assert {receive(client)[-1] for _ in range(35)} == {b"X"}
    assert blocked.stats()["received"] == 5
    gate.set()
    assert {receive(client)[-1] for _ in range(5)} == {b"late"}


class Load:
    """Counted clients: each request has a number, and so has its reply."""

    def __init__(self, place, clients=4, each=10):
        self.open, self.sent, self.answered, self.going = set(), 0, 0, True
        self._sockets = [place.client() for _ in range(clients)]
        for socket in self._sockets:
            for _ in range(each):
                self._send(socket)
        self._greenlets = [gevent.spawn(self._run, socket) for socket in self._sockets]

    def _send(self, socket):
        self.open.add(self.sent)
        socket.send_multipart([b"", b"%d" % self.sent])
        self.sent += 1

    def _run(self, socket):
        while True:
            self.open.remove(int(socket.recv_multipart()[-1]))
            self.answered += 1
            if self.going:
                self._send(socket)

    def more(self, number):
        """Wait until so many further replies have come."""
        wanted = self.answered + number
        eventually(lambda: self.answered >= wanted)

    def end(self):
        """Send no more, and wait for what is left."""
        self.going = False
        eventually(lambda: not self.open)

    def close(self):
        gevent.killall(self._greenlets)


def waits(request):
    gevent.sleep(0.002)
    return request.data


def test_servers_join_and_leave_under_load_and_nothing_is_lost(place):
    servers = [place.server(waits) for _ in range(2)]
    load = Load(place)
    gone = []
    for _ in range(4):
        load.more(100)
        servers.append(place.server(waits))
        load.more(100)
        gone.append(servers.pop(0))
        gone[-1].stop()
    load.end()
    for server in (*servers, *gone):
        assert_balanced(server)
        assert server.stats()["fates"]["abandoned"] == server.stats()["fates"]["peer_gone"] == 0
    assert (
        sum(server.stats()["fates"]["answered"] for server in (*servers, *gone))
        == load.sent
        == load.answered
    )
    eventually(lambda: len(place.workers) == 2)
    assert place.proxy.stats()["lost"] == 0
    load.close()


def test_who_asks_again_loses_nothing_where_servers_are_cut_off(place):
    """REQ clients, and servers that go without a goodbye: as in a rollout of who does not drain."""

    def ask(index):
        socket, asked_again = place.client(zmq.REQ, linger=0), 0
        for number in range(30):
            data = b"%d %d" % (index, number)
            socket.send(data)
            while not socket.poll(500):
                asked_again += 1
                socket.close(0)
                socket = place.client(zmq.REQ, linger=0)
                socket.send(data)
            assert socket.recv() == data
        return asked_again

    servers = [place.server(waits) for _ in range(2)]
    clients = [gevent.spawn(ask, index) for index in range(4)]
    for _ in range(2):
        gevent.sleep(0.02)
        servers.append(place.server(waits))
        servers.pop(0).context.destroy(0)
    with gevent.Timeout(DEADLINE):
        gevent.joinall(clients, raise_error=True)
    assert sum(client.value for client in clients) <= 2 * 4, (
        "once for each that had one in hand there"
    )


def test_one_that_leaves_finishes_what_takes_long(place):
    gate = Event()
    leaving = place.server(lambda request: gate.wait() and b"late")
    client = place.client()
    client.send_multipart([b"", b"x"])
    eventually(lambda: leaving.stats()["in_flight"] == 1)
    stopping = gevent.spawn(leaving.stop)
    eventually(lambda: place.workers[0]["leaving"])
    place.server(upper)
    for _ in range(20):
        client.send_multipart([b"", b"y"])
    assert {receive(client)[-1] for _ in range(20)} == {b"Y"}
    gate.set()
    assert receive(client)[-1] == b"late"
    stopping.join(DEADLINE)


def test_what_is_lost_with_one_that_is_cut_off_is_counted(place):
    """As when it is killed: at most its window; the others go on, and who asks again gets a
    reply."""
    gate = Event()
    victim = place.server(lambda request: gate.wait(), proxy_window=3)
    client = place.client()
    for _ in range(10):
        client.send_multipart([b"", b"x"])
    eventually(lambda: place.workers[0]["in_hand"] == 3)
    victim.context.destroy(0)  # no goodbye, as of a process that is killed
    place.server(upper)
    assert {receive(client)[-1] for _ in range(7)} == {b"X"}
    eventually(lambda: place.proxy.stats()["lost"] == 3)
    for _ in range(3):
        client.send_multipart([b"", b"again"])
    assert {receive(client)[-1] for _ in range(3)} == {b"AGAIN"}


def test_a_client_that_has_gone_costs_a_reply_and_no_more(place):
    """Of some: libzmq may take a reply for one whose end it has not read yet."""
    gate = Event()
    place.server(lambda request: gate.wait() and b"late")
    for number in range(1, 11):
        client = place.client()
        client.send_multipart([b"", b"x"])
        eventually(lambda number=number: place.proxy.stats()["requests"] == number)
        client.close(0)
    other = place.client()
    other.send_multipart([b"", b"x"])
    eventually(lambda: place.proxy.stats()["requests"] == 11)
    gate.set()
    assert receive(other)[-1] == b"late"
    eventually(lambda: place.proxy.stats()["gone"] > 0)


def test_a_proxy_that_drains_takes_no_more_and_loses_nothing(place):
    gate = Event()
    server = place.server(lambda request: gate.wait() and b"late")
    client = place.client()
    client.send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["in_flight"] == 1)
    draining = gevent.spawn(place.proxy.drain, DEADLINE)
    gevent.sleep(0)
    gate.set()
    assert receive(client)[-1] == b"late"
    assert draining.get(timeout=DEADLINE) == 0


def test_a_message_of_too_many_frames_is_dropped(place):
    place.server(upper)
    client = place.client()
    client.send_multipart([b""] + [b"x"] * 2000)
    client.send_multipart([b"", b"x"])
    assert receive(client)[-1] == b"X"
    assert place.proxy.stats()["malformed"] == 1


def test_words_of_a_client_are_a_request(place):
    """It cannot greet, or say goodbye in the name of others."""
    place.server(lambda request: b"%d" % len(request.data))
    client = place.client()
    client.send_multipart([b"", b"green-router/1 bye"])
    assert receive(client)[-1] == b"18"
    assert not place.workers[0]["leaving"]


def test_a_plain_dealer_shares_out_and_is_not_waited_for(place):
    """Somebody's own zmq_proxy: there is no credit, and no goodbye."""
    dealer = place.clients.socket(zmq.DEALER)
    port = dealer.bind_to_random_port("tcp://127.0.0.1")
    server = Server(upper, linger=0.2)
    server.connect(f"tcp://127.0.0.1:{port}")
    server.start()
    dealer.send_multipart([b"client", b"", b"hello"])
    while (frames := receive(dealer))[0] == b"":  # how it is, which a ROUTER in front would drop
        pass
    assert frames == [b"client", b"", b"HELLO"]
    with gevent.Timeout(DEADLINE):
        server.stop()
    assert_balanced(server)
