"""A lock service: the request of one client completes the reply to another.

A client that wants a lock which is taken waits for its reply until the lock is released, for 30 s
at the most. That costs the server the memory of a request: no thread, no question whether it is
released yet. The deadline does more than to be polite: who waits takes a place among max_in_flight
requests, and when all places are taken by those who wait, the release that they wait for cannot
come in.

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

from green_router import HandlerTimeout, Reject, Server

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
    while waiting[name]:
        request = waiting[name].popleft()
        if not request.replied:  # or its deadline has passed, and it has been told so
            request.reply(name + b" is yours")
            break
    else:
        del waiting[name]
    return name + b" is released"


def on_error(request, exception):
    if isinstance(exception, HandlerTimeout):
        return request.data.partition(b" ")[2] + b" is still taken"
    return b"failed"


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    Server(handle_request, handler_timeout=30, on_error=on_error).serve_forever(endpoint)
