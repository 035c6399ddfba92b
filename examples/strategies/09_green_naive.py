"""zmq.green: a greenlet a request, and one that sends.

One greenlet receives, gevent.spawn runs the handler, and a sender takes the replies from a gevent
queue. The handler is ordinary code, and thousands of requests may wait at the same time.

What it teaches
  This is the right shape: a handler that waits holds up nobody, and nothing turns. What it costs is
  in its convenient calls. zmq.green asks for the socket's state around every frame, the multipart
  calls check in Python what is known, and to spawn a greenlet costs more than a quick handler does.
  green_router has the same shape without these.

    $ python examples/strategies/09_green_naive.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import os
import sys

import gevent
import gevent.queue
import zmq.green as zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))


def handle_request(data):
    if seconds:
        gevent.sleep(seconds)
    return data


def answer(client_id, data):
    replies.put((client_id, handle_request(data)))


def send_all():
    while True:
        client_id, data = replies.get()
        router.send_multipart([client_id, b"", data])


replies = gevent.queue.Queue()
router = zmq.Context().socket(zmq.ROUTER)
router.bind(endpoint)
gevent.spawn(send_all)
print("serving on", router.last_endpoint.decode(), flush=True)

while True:
    client_id, _, data = router.recv_multipart()
    gevent.spawn(answer, client_id, data)
