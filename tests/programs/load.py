"""A crowd of DEALER clients that asks at a steady rate, or each again when it has its reply, and
tells how long that took.

Usage: load.py ENDPOINT CLIENTS REQUESTS_PER_SECOND [WORD...]

A rate of 0 means: each client has one request on its way at any time. Each line of standard input
is a number of seconds to go on for, ``on`` for until the next line; then it waits for what is owed:
a reply to each request, or as many replies as that next line says. The answer is a line of JSON:
how many requests were sent, answered, refused (with ``busy``) and timed out (with the name of that
error), percentiles of the latency in seconds, and disconnections. The words are the request; the
last frame of its reply has to be that of the request.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from queue import SimpleQueue

import zmq

ROUND_SECONDS = 0.002
PATIENCE_SECONDS = 20.0
BUSY, TIMED_OUT = b"busy", b"HandlerTimeout"

endpoint, clients, rate = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
body = " ".join(sys.argv[4:]).encode() or b"echo"

context = zmq.Context()
context.max_sockets = 4 * clients + 10
poller = zmq.Poller()
sockets, monitors = [], []
for _ in range(clients):
    socket = context.socket(zmq.DEALER)
    # What is sent too much is blocked here, not queued.
    socket.linger, socket.sndhwm, socket.sndbuf = (0, 20, 65536)
    monitors.append(socket.get_monitor_socket(zmq.EVENT_DISCONNECTED))
    socket.connect(endpoint)
    poller.register(socket, zmq.POLLIN)
    sockets.append(socket)


lines: SimpleQueue[str] = SimpleQueue()


def read() -> None:
    """THREAD."""
    for line in sys.stdin:
        lines.put(line.strip())
    lines.put("")


def go(how_long: str) -> dict[str, object]:
    seconds = float("inf") if how_long == "on" else float(how_long)
    latencies: list[float] = []
    sent = blocked = refused = timed_out = 0
    idle = deque(sockets)
    owed, came = "", True
    begun = time.monotonic()
    while True:
        now = time.monotonic()
        if how_long == "on" and seconds > now and not lines.empty():
            owed = lines.get()
            seconds = now - begun
        going = now < begun + seconds
        enough = len(latencies) + refused + timed_out >= (int(owed) if owed.isdigit() else sent)
        if not going and ((enough and not came) or now > begun + seconds + PATIENCE_SECONDS):
            break
        if rate:
            due = min(int((now - begun) * rate) - sent - blocked, 50) if going else 0
        else:
            due = len(idle) if going else 0
        for _ in range(due):
            socket = sockets[(sent + blocked) % clients] if rate else idle.popleft()
            try:
                socket.send_multipart([b"", body, b"%.7f" % time.monotonic()], zmq.NOBLOCK)
                sent += 1
            except zmq.Again:
                blocked += 1
        came = False
        for socket, _ in poller.poll(1000 * ROUND_SECONDS):
            came = True
            try:
                while True:
                    reply = socket.recv_multipart(zmq.NOBLOCK)[-1]
                    if reply == BUSY:
                        refused += 1
                    elif reply == TIMED_OUT:
                        timed_out += 1
                    else:
                        latencies.append(time.monotonic() - float(reply))
                    idle.append(socket)
            except zmq.Again:
                pass
    gone = sum(bool(monitor.poll(0)) for monitor in monitors)
    ordered = sorted(latencies) or [0.0]
    return {
        "sent": sent,
        "blocked": blocked,
        "received": len(latencies),
        "refused": refused,
        "timed out": timed_out,
        "disconnected": gone,
        "p50": ordered[len(ordered) // 2],
        "p99": ordered[int(len(ordered) * 0.99)],
        "max": ordered[-1],
        "seconds": time.monotonic() - begun,
    }


print("ready", flush=True)
threading.Thread(target=read, daemon=True).start()
while line := lines.get():
    print(json.dumps(go(line)), flush=True)
