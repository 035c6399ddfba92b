"""One greenlet owns the ROUTER, others run the handler.

The owner sleeps until the descriptor or a finished reply wakes it; there is no timeout anywhere.
Greenlets that run the handler are used again, replies come back through a gevent queue, and one
wake-up serves many of both.

What it teaches
  The shape of green_naive, at a fraction of its cost: the frames move through pyzmq's compiled
  calls alone, and a handler that does not wait costs no switch. The handler is ordinary code,
  clients do not change, and the server counts what becomes of every message.

    $ python examples/strategies/10_green_router.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import logging
import os
import sys

import gevent

from green_router import Server

seconds = float(os.environ.get("REPLY_SECONDS", "0"))


def handle_request(request):
    if seconds:
        gevent.sleep(seconds)
    return request.data


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Server(handle_request).serve_forever(endpoint)
