"""An unchanged REQ client: sends payloads of many sizes to every endpoint and checks every reply.

Usage: ask_all.py NUMBER REQUESTS ENDPOINT...

The payloads are made from NUMBER, so that two clients never send the same bytes. Each goes to all
endpoints, and each endpoint must reply with the payload in upper case. It ends with a line that
counts the replies, all of them right; the first wrong one ends it with a sentence and exit code 1.
"""

import sys
from contextlib import ExitStack
from random import Random

import zmq

number, count = map(int, sys.argv[1:3])
endpoints = sys.argv[3:]

# Where something changes: no bytes at all, what fits into libzmq's message struct (33), ZMTP's
# short and long frames (255), libzmq's read buffer (8 KiB), and what takes many reads.
SMALL = [0, 1, 2, 32, 33, 34, 255, 256, 257, 1_000, 8_191, 8_192, 8_193]
LARGE = [65_536, 1_000_000]
LARGE_EVERY = 25

random = Random(number)
sizes = [
    LARGE[i // LARGE_EVERY % 2] if i % LARGE_EVERY == 0 else random.choice(SMALL)
    for i in range(count)
]

with zmq.Context() as context, ExitStack() as stack:
    sockets = [stack.enter_context(context.socket(zmq.REQ)) for _ in endpoints]
    for socket, endpoint in zip(sockets, endpoints, strict=True):
        socket.linger = 0
        socket.connect(endpoint)
    for size in sizes:
        payload = random.randbytes(size)
        for socket in sockets:
            socket.send(payload)
        for socket, endpoint in zip(sockets, endpoints, strict=True):
            reply = socket.recv_multipart()
            if reply != [payload.upper()]:
                sys.exit(
                    f"{endpoint} replied to {size} bytes with {len(reply)} frames of "
                    f"{sum(map(len, reply))} bytes"
                )

print(f"{count} replies from each of {len(endpoints)} endpoints are right")
