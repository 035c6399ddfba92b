"""The step after drop_in_told.py: the handler returns the future, and its reply leaves the moment
it is done.

Nobody asks whether it is ready, so nothing turns while replies are pending either. A future may be
any that has add_done_callback (concurrent.futures, asyncio) or rawlink (gevent).

    $ python examples/futures.py tcp://127.0.0.1:5555 &
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

from green_router import Server

seconds = float(sys.argv[2]) if len(sys.argv) > 2 else 0.02

logging.basicConfig(level=logging.INFO, format="%(message)s")
pool = ThreadPoolExecutor(32)


def work(data):
    time.sleep(seconds)  # a database, a device, another service
    return data.upper()


def handle_request(request):
    return pool.submit(work, request.data)


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    Server(handle_request).serve_forever(endpoint)
