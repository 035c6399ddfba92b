"""Replies from OS threads: four of them take requests from a queue, and each sends its replies
itself.

The handler returns None, which means: the reply comes later. request.reply may be called in any
thread. The work here keeps a processor busy and lets go of the GIL, so the threads really run side
by side, and the server beside them.

    $ python examples/threads.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/asyncio_client.py tcp://127.0.0.1:5555 red green blue
    red 364c36b288639e03
    green 8d6c79fb74e962be
    blue 9e679dda7f69e220
"""

import hashlib
import logging
import queue
import sys
import threading

from green_router import Server

requests = queue.SimpleQueue()


def derive_keys():
    while True:
        request = requests.get()
        key = hashlib.pbkdf2_hmac("sha256", request.data, b"a salt", iterations=100_000)
        request.reply(request.data + b" " + key.hex()[:16].encode())


def handle_request(request):
    requests.put(request)


if __name__ == "__main__":
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    for _ in range(4):
        threading.Thread(target=derive_keys, daemon=True).start()
    Server(handle_request).serve_forever(endpoint)
