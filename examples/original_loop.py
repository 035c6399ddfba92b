"""The original program: one poll loop that receives, asks the handler again and again, and sends.

While a reply is pending the loop turns a thousand times a second to ask for it, and a reply that is
ready waits for the next turn. drop_in.py is the same program on green_router: the diff of the two
files is the migration guide.

    $ python examples/original_loop.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello world
    HELLO
    WORLD

A second argument says how many seconds each reply takes (default 0.02).
"""

import logging
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.02

logging.basicConfig(level=logging.INFO, format="%(message)s")
pool = ThreadPoolExecutor(32)
jobs = {}


def work(data):
    time.sleep(seconds)  # a database, a device, another service
    return data.upper()


def handle_request(request):
    client_id, data = request
    if request not in jobs:
        jobs[request] = pool.submit(work, data)
    if not jobs[request].done():
        return None  # not ready: ask again on the next pass
    return client_id, jobs.pop(request).result()


TIMEOUT = 1  # ms
router = zmq.Context().socket(zmq.ROUTER)
router.bind(endpoint)
poller = zmq.Poller()
poller.register(router, zmq.POLLIN)
requests = []
replies = []
logging.info("serving on %s", router.last_endpoint.decode())

while True:
    socks = dict(poller.poll(TIMEOUT if requests else None))
    if socks.get(router) == zmq.POLLIN:
        client_id = router.recv()
        _ = router.recv()
        data = router.recv()
        requests.append((client_id, data))
    for req in list(requests):
        rep = handle_request(req)
        if rep:
            replies.append(rep)
            requests.remove(req)
    for client_id, data in replies:
        router.send(client_id, zmq.SNDMORE)
        router.send(b"", zmq.SNDMORE)
        router.send(data)
    del replies[:]
