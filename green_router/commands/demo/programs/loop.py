"""The original program: one poll loop that receives, asks for each pending reply on each pass, and
sends.

Rules of this file
  1. It needs nothing but pyzmq, and knows nothing of green_router.
  2. Its timeout is 1 ms while a reply is pending, and none while none is: it is the loop at its
     best. A finished reply waits half a millisecond on average for the next pass; longer would cost
     less CPU, and every reply would be later.
"""

from __future__ import annotations

import sys

import zmq
from app import handle_request

TIMEOUT = 1
"""Milliseconds."""

router = zmq.Context().socket(zmq.ROUTER)
router.bind(sys.argv[1])
poller = zmq.Poller()
poller.register(router, zmq.POLLIN)
requests: list[tuple[bytes, bytes]] = []
replies: list[tuple[bytes, bytes]] = []
print("serving on", router.getsockopt_string(zmq.LAST_ENDPOINT), flush=True)

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
