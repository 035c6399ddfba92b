"""A client with a routing id of its own, that is killed and started again.

Usage: reborn.py ENDPOINT ROUTING_ID

It is ready when it has said so; a line on standard input makes it connect and ask, until it is
answered. The answer is a line of JSON: after how many seconds the reply came. A client that is
ignored because another one has its routing id asks again over a new connection, as REQ clients with
a time limit do.
"""

from __future__ import annotations

import json
import sys
import time

import zmq

endpoint, routing_id = sys.argv[1:3]
PATIENCE_MS = 20

context = zmq.Context()
print("ready", flush=True)
sys.stdin.readline()
begun = time.monotonic()
reply = None
while reply is None:
    socket = context.socket(zmq.DEALER)
    socket.linger, socket.routing_id = 0, routing_id.encode()
    socket.connect(endpoint)
    socket.send_multipart([b"", b"echo"])
    if socket.poll(PATIENCE_MS):
        reply = socket.recv_multipart()
    else:
        socket.close()
assert reply == [b"", b"echo"]
print(json.dumps(time.monotonic() - begun), flush=True)
sys.stdin.readline()  # until it is killed
