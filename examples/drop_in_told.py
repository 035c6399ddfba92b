"""The step after drop_in.py: whoever makes a reply ready says so, and the handler is asked at once.

One more line, add_done_callback: ready may be called from any thread or greenlet, and many calls
are one wake-up. So nothing is late, and nothing is asked in between. futures.py shows the last
step, in which nothing is asked twice.

    $ python examples/drop_in_told.py tcp://127.0.0.1:5555 &
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

from green_router import Server, until_ready

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.02

logging.basicConfig(level=logging.INFO, format="%(message)s")
pool = ThreadPoolExecutor(32)
jobs = {}


def work(data):
    time.sleep(seconds)  # a database, a device, another service
    return data.upper()


@until_ready
def handle_request(request):
    client_id, data = request
    if request not in jobs:
        jobs[request] = pool.submit(work, data)
        jobs[request].add_done_callback(handle_request.ready)
    if not jobs[request].done():
        return None  # not ready: ask again when it is
    return client_id, jobs.pop(request).result()


Server(handle_request).serve_forever(endpoint)
