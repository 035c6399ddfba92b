"""DEALERs that send random multipart messages.

Usage: babble.py ENDPOINT CLIENTS MESSAGES SEED

Frames of no bytes, of few and of many, delimiters in any place or none, one frame or dozens:
whatever libzmq can carry. The last line of output is how many messages were sent, once libzmq has
given them all to the kernel.
"""

from __future__ import annotations

import random
import sys

import zmq

endpoint, clients, messages, seed = sys.argv[1], *map(int, sys.argv[2:5])
pick = random.Random(seed)
pool = [
    b"",
    b"",
    b"\0",
    *(
        pick.randbytes(size)
        for size in [1, 4, 5, 32, 33, 34, 64, 255, 256, 300, 5000]
        for _ in range(5)
    ),
]
verbs = [
    b"echo",
    b"size 10",
    b"fail",
    b"silence",
    b"text",
    b"stream 3 10",
    b"sleep 0.001",
    b"size",
    b"sleep x",
    b"keep",
]
SIZES = [1, 1, 1, 2, 2, 2, 2, 3, 3, 4, 5, 40]

context = zmq.Context()
sockets = []
for _ in range(clients):
    socket = context.socket(zmq.DEALER)
    socket.linger, socket.rcvhwm = -1, 10
    socket.connect(endpoint)
    sockets.append(socket)
for number in range(messages):
    frames = [pick.choice(pool) for _ in range(pick.choice(SIZES))]
    if number % 5 == 0:
        frames = [b"", pick.choice(verbs[:-1])]
    socket = sockets[number % clients]
    socket.send_multipart(frames)
    if number % 3 == 0:
        while socket.poll(0):
            socket.recv_multipart()
for socket in sockets:
    socket.close()
context.term()
print(messages, flush=True)
