"""A lock service: the request of one client completes the reply to another.

A client that wants a lock which is taken waits for its reply until the lock is released. That costs the server the
memory of a request: no thread, no timer, no question whether it is released yet.

    $ python examples/lock_service.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 "acquire door"
    door is yours
    $ python examples/clients/req.py tcp://127.0.0.1:5555 "acquire door" &
    1 waits for door
    $ python examples/clients/req.py tcp://127.0.0.1:5555 "release door"
    door is released
    door is yours
"""

import logging
import sys
from collections import deque

from green_router import Reject, Server

waiting = {}  # for each lock that is taken: the requests that wait for it, the oldest first


def handle_request(request):
    verb, _, name = request.data.partition(b" ")
    if verb == b"acquire":
        return acquire(name, request)
    if verb == b"release" and name in waiting:
        return release(name)
    raise Reject(b"say 'acquire NAME' or, when it is taken, 'release NAME'")


def acquire(name, request):
    if name not in waiting:
        waiting[name] = deque()
        return name + b" is yours"
    waiting[name].append(request)
    logging.info("%d waits for %s", len(waiting[name]), name.decode())
    return None  # the reply comes with a release


def release(name):
    if waiting[name]:
        waiting[name].popleft().reply(name + b" is yours")
    else:
        del waiting[name]
    return name + b" is released"


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Server(handle_request).serve_forever(endpoint)
