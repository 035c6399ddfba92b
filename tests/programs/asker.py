"""Clients that ask and do not read, until they are told to: to be frozen, killed, or cut off.

Usage: asker.py ENDPOINT CLIENTS REQUESTS ROUTING_ID BYTES WORD...

Each of so many DEALERs asks so many times; the words are the request, its last word is the number
of the request, and a frame of so many bytes (0 for none) follows. The routing id (``-`` for none)
gets the number of the client behind it. ``asked`` is printed when libzmq has taken the requests. A
line on standard input makes them read: a line of JSON for each client then tells how many replies
came, and whether they stood in order.
"""

from __future__ import annotations

import json
import sys

import zmq

endpoint, clients, requests, routing_id = (
    sys.argv[1],
    int(sys.argv[2]),
    int(sys.argv[3]),
    sys.argv[4],
)
padding = [bytes(int(sys.argv[5]))] if sys.argv[5] != "0" else []
words = " ".join(sys.argv[6:])
QUIET_MS = 1000

context = zmq.Context()
context.max_sockets = clients + 10
sockets = []
for number in range(clients):
    socket = context.socket(zmq.DEALER)
    socket.linger, socket.sndhwm, socket.rcvhwm, socket.rcvbuf = 0, 0, 1, 65536
    if routing_id != "-":
        socket.routing_id = f"{routing_id}{number}".encode()
    socket.connect(endpoint)
    sockets.append(socket)
for socket in sockets:
    for number in range(requests):
        socket.send_multipart([b"", f"{words} {number}".encode(), *padding])
print("asked", flush=True)
for line in sys.stdin:
    wanted = int(line)
    for socket in sockets:
        got = []
        while len(got) < wanted and socket.poll(10 * QUIET_MS if not got else QUIET_MS):
            number = socket.recv_multipart()[1].split()[-1]
            got.append(int(number) if number.isdigit() else -1)  # -1: the name of an error
        print(json.dumps({"received": len(got), "in order": got == sorted(got)}), flush=True)
