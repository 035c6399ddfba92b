"""A stream: a handler that is a generator sends one reply for each item.

Streams are for DEALER clients, since a REQ client takes one reply only. The client must see where
the stream ends; here it is an empty reply.

    $ python examples/stream.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/listen.py tcp://127.0.0.1:5555 "one two three"
    one
    two
    three
"""

import logging
import sys

import gevent

from green_router import Server


def handle_request(request):
    for word in request.data.split():
        yield word
        gevent.sleep(0.1)  # waits for the next item, while others are served
    yield b""


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Server(handle_request).serve_forever(endpoint)
