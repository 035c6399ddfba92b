"""The original program on green_router: one line in the place of the loop; handler and clients are
as they were.

Nothing turns while there is nothing to do, and a reply leaves when the handler gives it.
until_ready keeps the handler's convention, so it still asks for a reply that is not ready: every
millisecond at first, less often in the end. drop_in_told.py shows the next step, which leaves that
out too.

    $ python examples/drop_in.py tcp://127.0.0.1:5555 &
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


def handle_request(request):
    client_id, data = request
    if request not in jobs:
        jobs[request] = pool.submit(work, data)
    if not jobs[request].done():
        return None  # not ready: ask again on the next pass
    return client_id, jobs.pop(request).result()


Server(until_ready(handle_request)).serve_forever(endpoint)
