"""Other OS threads: they may reply, push and stop; and a server may live in any of them."""

from __future__ import annotations

import threading
from time import monotonic

import gevent
import gevent.event
import pytest
import zmq
import zmq.green
from gevent.monkey import get_original

from green_router import Server
from green_router.errors import WrongThread
from green_router.testing import DEADLINE, eventually, settled

Thread = get_original("threading", "Thread")
THREADS, EACH = 16, 500


def test_replies_from_many_threads_on_an_idle_hub(serve):
    """None lost, none late: a thread's reply wakes the hub, which has nothing else to wake it."""
    boxes = [[] for _ in range(THREADS)]
    ready = [threading.Semaphore(0) for _ in range(THREADS)]

    def work(number):
        for _ in range(EACH):
            ready[number].acquire()
            request = boxes[number].pop()
            request.reply(request.data)

    def handler(request):
        number = int(request.data) % THREADS
        boxes[number].append(request)
        ready[number].release()

    server = serve(handler)
    threads = [Thread(target=work, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    client = server.client(zmq.DEALER)
    latest = 0.0
    for number in range(0, THREADS * EACH, 100):
        for n in range(number, number + 100):
            client.send_multipart([b"", b"%d" % n])
        begun = monotonic()
        assert sorted(int(client.recv_multipart()[1]) for _ in range(100)) == list(
            range(number, number + 100)
        )
        latest = max(latest, monotonic() - begun)
    for thread in threads:
        thread.join()
    assert settled(server, "answered") == THREADS * EACH
    assert latest < 1.0, "a reply waited for something else to wake the hub"


def test_a_push_from_a_thread(serve):
    server = serve(lambda request: b"ok")
    client = server.client(zmq.DEALER, routing_id=b"me")
    client.send_multipart([b"", b"x"])
    client.recv_multipart()
    thread = Thread(target=lambda: server.send(b"me", b"news"))
    thread.start()
    assert client.recv_multipart() == [b"", b"news"]
    thread.join()


def run_in_thread(body):
    """Run it in a thread with a hub of its own, re-raising what it raises."""
    failed = []

    def work():
        try:
            body()
        except BaseException as error:
            failed.append(error)
        finally:
            gevent.get_hub().destroy(destroy_loop=True)

    thread = Thread(target=work)
    thread.start()

    def join():
        eventually(lambda: not thread.is_alive())
        thread.join()
        if failed:
            raise failed[0]

    return join


def test_a_server_in_another_thread_stopped_from_this_one():
    servers, bound = [], gevent.get_hub().loop.async_()
    waiter = gevent.hub.Waiter()
    bound.start(waiter.switch, None)

    def body():
        server = Server(lambda request: request.data.upper(), linger=0.1)
        server.bind("tcp://127.0.0.1:0")
        server.start()
        servers.append(server)
        bound.send()
        server.serve_forever()

    join = run_in_thread(body)
    with gevent.Timeout(DEADLINE):
        waiter.get()
    bound.close()
    context = zmq.green.Context()
    client = context.socket(zmq.REQ)
    client.linger = 0
    client.connect(servers[0].endpoints[0])
    client.send(b"x")
    assert client.recv() == b"X"
    servers[0].stop()
    join()
    assert not servers[0].started
    assert settled(servers[0], "answered") == 1
    client.close()
    context.term()


def test_bind_on_a_started_server_belongs_in_its_thread(serve):
    server = serve(lambda request: request.data)
    with pytest.raises(WrongThread, match="thread that serves"):
        gevent.get_hub().threadpool.apply(server.bind, ("tcp://127.0.0.1:0",))
    assert len(server.endpoints) == 1
    assert server.ask(b"x") == b"x"


def test_several_servers_in_one_process(serve):
    one, two = serve(lambda request: b"one"), serve(lambda request: b"two")
    assert [one.ask(b"x"), two.ask(b"x"), one.ask(b"x")] == [b"one", b"two", b"one"]
    assert settled(one) == 2
    assert settled(two) == 1


@pytest.mark.parametrize("timeout", [None, 0.05])
def test_stop_in_a_handler_returns_at_once_and_ends_when_the_handler_has(serve, timeout):
    def handler(request):
        server.stop(timeout)
        assert not server.started
        return b"goodbye"

    server = serve(handler)
    client = server.client()
    client.send(b"x")
    assert client.recv() == b"goodbye"
    server.close_clients()
    eventually(lambda: "stopped" in repr(server))
