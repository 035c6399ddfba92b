"""Handler threads; their queue is looked at after poll.

One thread owns the socket, as libzmq wants it. Handlers run in a pool of 32 threads, so many at the
same time and not one more, and put their replies in a queue; the owner looks into it whenever poll
returns.

What it teaches
  Threads take the waiting out of the handler, not out of the loop: nothing that a handler thread
  can do to a Python queue ends a poll on a socket. So the poll still ends every millisecond while
  anything is in flight, and a reply that is ready waits for that. Now each request also passes
  between threads twice, and they all share one interpreter lock.

    $ python examples/strategies/03_receive_and_send_threads.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import os
import queue
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))


def handle_request(data):
    if seconds:
        time.sleep(seconds)
    return data


def answer(client_id, data):
    replies.put((client_id, handle_request(data)))


TIMEOUT = 1  # ms
replies = queue.SimpleQueue()
pool = ThreadPoolExecutor(32)
router = zmq.Context().socket(zmq.ROUTER)
router.bind(endpoint)
in_flight = 0
print("serving on", router.last_endpoint.decode(), flush=True)

while True:
    if router.poll(TIMEOUT if in_flight else None):
        client_id, _, data = router.recv_multipart()
        pool.submit(answer, client_id, data)
        in_flight += 1
    while not replies.empty():
        client_id, data = replies.get()
        router.send_multipart([client_id, b"", data])
        in_flight -= 1
