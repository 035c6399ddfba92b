"""The original loop: it asks again every millisecond.

While a request is pending, poll returns after a millisecond so that the handler can be asked
whether its reply is ready. No thread, no queue, no lock: easy to write, and right.

What it teaches
  A finished reply cannot end the wait, so the wait must be short: a thousand turns a second while
  anything is pending, each of them asking every pending request again, and a reply that is ready is
  still up to a millisecond late. A longer timeout costs less CPU, and every reply waits longer: no
  value is right. All that follows is about that wait.

    $ python examples/strategies/01_short_poll.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import os
import sys
import time

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))
ready_at = {}


def handle_request(request):
    now = time.monotonic()
    if now < ready_at.setdefault(request, now + seconds):
        return None  # not ready: ask again on the next pass
    del ready_at[request]
    return request


TIMEOUT = 1  # ms
router = zmq.Context().socket(zmq.ROUTER)
router.bind(endpoint)
poller = zmq.Poller()
poller.register(router, zmq.POLLIN)
requests = []
replies = []
print("serving on", router.last_endpoint.decode(), flush=True)

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
