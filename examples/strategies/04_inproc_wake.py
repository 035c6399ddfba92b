"""A thread pool; a second socket ends the wait.

Each of 32 handler threads has a PUSH socket of its own, and the owner of the ROUTER polls the PULL
socket at the other end together with the ROUTER. A finished reply is a message like any other, and
ends the poll: it needs no timeout any more.

What it teaches
  This is the answer that libzmq intends, and the right one where threads are given: nothing turns,
  nothing is late. It costs a second trip through libzmq for each reply, and in Python a pool of
  threads that pass one interpreter lock around. As many requests are handled at the same time as
  there are threads, and not one more.

    $ python examples/strategies/04_inproc_wake.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import os
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))


def handle_request(data):
    if seconds:
        time.sleep(seconds)
    return data


def open_way_back():
    thread.replies = context.socket(zmq.PUSH)
    thread.replies.connect("inproc://replies")


def answer(client_id, data):
    thread.replies.send_multipart([client_id, b"", handle_request(data)])


context = zmq.Context()
replies = context.socket(zmq.PULL)
replies.bind("inproc://replies")
thread = threading.local()
pool = ThreadPoolExecutor(32, initializer=open_way_back)
router = context.socket(zmq.ROUTER)
router.bind(endpoint)
poller = zmq.Poller()
poller.register(router, zmq.POLLIN)
poller.register(replies, zmq.POLLIN)
print("serving on", router.last_endpoint.decode(), flush=True)

while True:
    for socket, _ in poller.poll():
        if socket is replies:
            router.send_multipart(replies.recv_multipart())
        else:
            client_id, _, data = router.recv_multipart()
            pool.submit(answer, client_id, data)
