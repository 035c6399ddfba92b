"""Echo: a handler takes a request and returns the reply.

Any client of ZeroMQ can ask:

    $ python examples/echo.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello
"""

import logging
import sys

from green_router import Server


def handle_request(request):
    return request.data


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Server(handle_request).serve_forever(endpoint)
