"""Push: the server speaks to clients that it remembers, without a request of theirs.

Who says "subscribe" gets everything that anybody says from then on; an empty message tells the
subscribers to go home. A message to a client that has gone is dropped and counted: a ROUTER does
not tell who leaves, so a service that runs for long lets its clients subscribe again from time to
time, and forgets those that did not.

    $ python examples/push.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/listen.py tcp://127.0.0.1:5555 subscribe &
    subscribed
    $ python examples/clients/req.py tcp://127.0.0.1:5555 "the market is open"
    told 1
    the market is open
    $ python examples/clients/req.py tcp://127.0.0.1:5555 ""
    told 1
"""

import logging
import sys

from green_router import Server

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
subscribers = set()


def handle_request(request):
    if request.data == b"subscribe":
        subscribers.add(request.routing_id)
        return b"subscribed"
    for routing_id in subscribers:
        server.send(routing_id, request.data)
    return b"told %d" % len(subscribers)


logging.basicConfig(level=logging.INFO, format="%(message)s")
server = Server(handle_request)
server.serve_forever(endpoint)
