"""Streams and pushes that are ahead of who takes them: they wait, and nothing is lost; nor is
anybody else kept waiting."""

from __future__ import annotations

import os
import threading
from time import monotonic

import gevent
import pytest
import zmq

from green_router import AlreadyReplied, ServerStopped
from green_router.serving import windows
from green_router.testing import DEADLINE, eventually, settled

ITEM, COUNT = 100_000, 60
ROOM = 8 * ITEM


def item(stream, number, size=ITEM):
    return b"%d %d " % (stream, number) + bytes(size)


def by_yield(request, items):
    yield from items


def by_reply(request, items):
    for each in items:
        request.reply(each, final=False)
    request.reply(b"end")


def by_thread(request, items):
    threading.Thread(target=by_reply, args=(request, items)).start()


def by_pool(request, items):
    """A thread that has a hub of its own."""
    gevent.get_hub().threadpool.spawn(by_reply, request, items)


WAYS = {"yield": by_yield, "reply": by_reply, "thread": by_thread, "pool": by_pool}


def slow(server):
    """A client behind whom little is buffered."""
    return server.client(zmq.DEALER, rcvhwm=1, rcvbuf=65536)


def read_slowly(server, client, count):
    """So many replies, one now and then, and the most bytes that were parked meanwhile."""
    got, most = [], 0
    with gevent.Timeout(DEADLINE):
        while len(got) < count:
            most = max(most, server.stats()["parked_bytes"])
            body = client.recv_multipart()[1]
            if body != b"end":
                got.append(tuple(map(int, body.split(b" ", 2)[:2])))
            gevent.sleep(0.001)
    return got, most


@pytest.mark.parametrize("way", WAYS)
def test_a_client_that_reads_however_slowly_gets_everything(serve, way):
    """What the items take together is many times what may be parked."""
    server = serve(
        lambda request: WAYS[way](request, (item(0, number) for number in range(COUNT))),
        send_high_water_mark=2,
        max_parked_bytes_per_peer=ROOM,
    )
    client = slow(server)
    client.send_multipart([b"", b"x"])
    got, most = read_slowly(server, client, COUNT)
    assert got == [(0, number) for number in range(COUNT)]
    assert 0 < most < 3 * ITEM
    eventually(lambda: settled(server, "answered") == 1)
    assert server.stats()["events"]["lost_stream_items"] == 0


@pytest.mark.parametrize("waits", [False, True])
def test_streams_to_one_client_share_what_it_has(serve, waits):
    """Twenty at once, whose first items alone are more than may be parked; also where they are all
    made in one moment."""
    streams, each = 20, 5

    def handler(request):
        for number in range(each):
            if waits:
                gevent.sleep(0.01)
            yield item(int(request.data), number)

    server = serve(handler, send_high_water_mark=2, max_parked_bytes_per_peer=ROOM)
    client = slow(server)
    for stream in range(streams):
        client.send_multipart([b"", b"%d" % stream])
    got, most = read_slowly(server, client, streams * each)
    assert sorted(got) == [(stream, number) for stream in range(streams) for number in range(each)]
    assert all(
        [number for of, number in got if of == stream] == list(range(each))
        for stream in range(streams)
    )
    assert most <= ROOM
    eventually(lambda: settled(server, "answered") == streams)


def test_a_stream_beside_replies_for_the_same_client(serve):
    def handler(request):
        return (
            by_yield(request, (item(0, number) for number in range(COUNT)))
            if request.data == b"stream"
            else item(1, 0)
        )

    server = serve(handler, send_high_water_mark=2, max_parked_bytes_per_peer=ROOM)
    client = slow(server)
    client.send_multipart([b"", b"stream"])
    for _ in range(5):
        client.send_multipart([b"", b"x"])
    got, _ = read_slowly(server, client, COUNT + 5)
    assert [number for stream, number in got if stream == 0] == list(range(COUNT))
    assert len(got) == COUNT + 5


def test_an_item_that_is_larger_than_what_may_be_parked_waits_alone(serve):
    size = 3 * ROOM
    server = serve(
        lambda request: by_yield(request, (item(0, number, size) for number in range(6))),
        send_high_water_mark=1,
        max_parked_bytes_per_peer=ROOM,
    )
    client = slow(server)
    client.send_multipart([b"", b"x"])
    got, most = read_slowly(server, client, 6)
    assert got == [(0, number) for number in range(6)]
    assert most < size + ITEM


def test_all_streams_of_one_that_does_not_read_end_with_the_first(serve, tmp_path):
    """Each in its turn would keep its place for as long again, and nobody else would be served
    meanwhile."""
    streams = 40

    def handler(request):
        return (
            b"fine"
            if request.data == b"other"
            else by_yield(request, (item(0, number) for number in range(COUNT)))
        )

    server = serve(
        handler,
        f"ipc://{tmp_path}/s",
        send_high_water_mark=2,
        park_timeout=0.3,
        max_in_flight=streams // 2,
    )
    client = slow(server)
    for _ in range(streams):
        client.send_multipart([b"", b"stream"])
    eventually(lambda: server.stats()["parked"])
    assert server.ask(b"other") == b"fine"
    eventually(lambda: settled(server, "peer_stalled") == streams)
    assert server.stats()["events"]["parked"] < streams / 4
    parking = server._owner.parking
    eventually(lambda: max(parking._stalled.values()) < monotonic())
    got = read_slowly(server, client, 2)[0]  # it goes on
    client.send_multipart([b"", b"stream"])
    while got[-1] != (0, COUNT - 1):
        got += read_slowly(server, client, 1)[0]


FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"


@pytest.mark.parametrize(
    ("size", "count", "settings"),
    [
        (1_000_000, 200 if FULL else 40, {"send_high_water_mark": 10}),
        (400_000, 3000 if FULL else 120, {}),
    ],
)
def test_large_items_reach_a_reader_that_is_slower_than_the_generator(serve, size, count, settings):
    """Twice and more of what may be parked for it, with the default bounds; at full size, many
    times that."""
    server = serve(
        lambda request: by_yield(request, (item(0, number, size) for number in range(count))),
        **settings,
    )
    client = slow(server)
    client.send_multipart([b"", b"x"])
    got, most = read_slowly(server, client, count)
    assert got == [(0, number) for number in range(count)]
    assert most < 2 * size
    eventually(lambda: settled(server, "answered") == 1)


def test_where_others_have_filled_what_may_be_parked_a_stream_of_a_slow_reader_ends(
    serve, tmp_path
):
    """In its order, without a gap, and as peer_stalled; when the others have gone, the next one
    arrives whole. The system takes more and more for who does not read, and so makes room again:
    each item leaves when that is filled anew. Over ipc it takes so much and no more."""

    def full_or_over():
        stats = server.stats()
        if stats["parked_bytes"] > ROOM - ITEM or stats["events"]["lost_stream_items"]:
            return True
        frozen.send_multipart([b"", b"reply"])
        return False

    def items(among_others):
        for number in range(COUNT):
            if among_others:
                eventually(full_or_over)
            yield item(1, number)

    def handler(request):
        return item(0, 0) if request.data == b"reply" else items(request.data == b"among others")

    server = serve(handler, f"ipc://{tmp_path}/s", send_high_water_mark=2, max_parked_bytes=ROOM)
    frozen, client = slow(server), slow(server)
    client.send_multipart([b"", b"among others"])
    eventually(lambda: server.stats()["events"]["lost_stream_items"])
    assert settled(server, "peer_stalled")
    frozen.close()
    eventually(lambda: settled(server, "peer_gone"))
    client.send_multipart([b"", b"alone"])
    got = []
    while got.count((1, COUNT - 1)) == 0:
        got += read_slowly(server, client, 1)[0]
    begun = len(got) - COUNT
    assert 0 < begun < COUNT
    assert got == [(1, number) for number in (*range(begun), *range(COUNT))]


def test_small_items_are_not_asked_about_one_by_one(serve):
    """A window holds so many of them, whatever they take."""
    asked = []
    server = serve(lambda request: (b"x" for _ in range(10 * windows.STREAM_PIECES)))
    ask = server._results.windows.when_taken
    server._results.windows.when_taken = lambda *about: asked.append(about) or ask(*about)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    for _ in range(10 * windows.STREAM_PIECES):
        client.recv_multipart()
    assert len(asked) == 10


def test_one_that_does_not_read_is_stalled_by_its_age_and_nothing_more_is_made(serve):
    made = []

    def handler(request):
        for number in range(10_000):
            made.append(number)
            yield bytes(ITEM)

    server = serve(handler, send_high_water_mark=2, park_timeout=0.2)
    slow(server).send_multipart([b"", b"x"])
    eventually(lambda: settled(server, "peer_stalled") == 1)
    assert len(made) < 200
    eventually(lambda: not server.stats()["parked"])


PUSHES = 20 * windows.PUSH_PIECES


def pushing(server, routing_id, most):
    for number in range(PUSHES):
        server.send(routing_id, b"%d" % number)
        most.append(len(server._mailbox))


@pytest.mark.parametrize("where", ["greenlet", "thread"])
def test_pushes_in_a_loop_wait_for_the_owner_and_let_others_through(serve, where):
    """Each arrives in its place; a request of another client is behind no more than one window of
    them."""
    most, found, behind = [0], [], []

    def handler(request):
        if request.data == b"ask":
            behind.append(len(server._mailbox))
            return b"answer"
        if where == "greenlet":
            gevent.spawn(pushing, server, request.routing_id, most)
        else:
            threading.Thread(target=pushing, args=(server, request.routing_id, most)).start()
        return b"begin"

    server = serve(handler, send_high_water_mark=2 * PUSHES)
    subscriber, other = server.client(zmq.DEALER, rcvhwm=0), server.client()
    subscriber.send_multipart([b"", b"push"])
    asking = gevent.spawn(
        lambda: [other.send(b"ask") or found.append(other.recv()) for _ in range(20)]
    )
    with gevent.Timeout(DEADLINE):
        pushed = [subscriber.recv_multipart()[1] for _ in range(PUSHES + 1)]
    asking.get(timeout=DEADLINE)
    assert [int(body) for body in pushed if body != b"begin"] == list(range(PUSHES))
    assert found == [b"answer"] * 20
    assert max(most) < 2 * windows.PUSH_PIECES
    assert max(behind) < 2 * windows.PUSH_PIECES
    assert server.stats()["events"]["pushes"] == PUSHES


def test_in_the_hub_nobody_waits(serve):
    """A callback of a timer, a finalizer in the owner: it is put, and that is all."""
    server = serve(lambda request: b"ok")
    put = []

    def push_all():
        for _ in range(3 * windows.PUSH_PIECES):
            server.send(b"nobody", b"x")
        put.append(True)

    gevent.get_hub().loop.run_callback(push_all)
    eventually(lambda: put)
    server._mailbox.put(push_all)  # the owner calls it
    eventually(lambda: len(put) == 2)
    eventually(lambda: server.stats()["events"]["lost_pushes"] == 6 * windows.PUSH_PIECES)


def test_a_thread_goes_on_where_the_loop_does_not_turn(serve, monkeypatch):
    """A handler that waits for it natively, as one waits for a lock that it has."""
    monkeypatch.setattr(windows, "LOOP_SECONDS", 0.01)

    def handler(request):
        thread = threading.Thread(
            target=lambda: [
                server.send(request.routing_id, bytes(windows.PUSH_BYTES)) for _ in range(4)
            ]
        )
        thread.start()
        thread.join(DEADLINE)
        return b"%d" % thread.is_alive()

    server = serve(handler)
    client = server.client(zmq.DEALER)
    client.send_multipart([b"", b"x"])
    assert [len(client.recv_multipart()[1]) for _ in range(5)] == [windows.PUSH_BYTES] * 4 + [1]


@pytest.mark.parametrize("way", ["reply", "thread", "pool"])
def test_who_waits_when_the_server_ends_is_told_so(serve, way):
    ended = []

    def send(request, items):
        try:
            by_reply(request, items)
        except (AlreadyReplied, ServerStopped) as error:
            ended.append(type(error))

    def handler(request):
        items = (item(0, number) for number in range(10_000))
        if way == "reply":
            gevent.spawn(send, request, items)
        elif way == "thread":
            threading.Thread(target=send, args=(request, items)).start()
        else:
            gevent.get_hub().threadpool.spawn(send, request, items)

    server = serve(handler, send_high_water_mark=2)
    slow(server).send_multipart([b"", b"x"])
    eventually(lambda: server.stats()["parked"])
    server.stop(0)
    eventually(lambda: ended)
    assert ended == [ServerStopped]
