"""A ROUTER-DEALER proxy and REP threads.

zmq.proxy owns the ROUTER: it moves requests to a DEALER, which deals them out to 32 threads with a
REP socket each, and moves the replies back. It is the multithreaded server of the ZeroMQ guide.

What it teaches
  The shortest of all, and nothing turns: the proxy runs in C, and the interpreter is needed for the
  handler alone. But REP takes one request at a time, so as many are handled at the same time as
  there are threads; the DEALER deals them out in turn, also to a thread that is busy while others
  are free; and the handler no longer knows who asked, and cannot reply later, or more than once.

    $ python examples/strategies/07_proxy_threads.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import os
import sys
import threading
import time

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))


def handle_request(data):
    if seconds:
        time.sleep(seconds)
    return data


def answer_all():
    rep = context.socket(zmq.REP)
    rep.connect("inproc://handlers")
    while True:
        rep.send(handle_request(rep.recv()))


context = zmq.Context()
router, dealer = context.socket(zmq.ROUTER), context.socket(zmq.DEALER)
router.bind(endpoint)
dealer.bind("inproc://handlers")
for _ in range(32):
    threading.Thread(target=answer_all, daemon=True).start()
print("serving on", router.last_endpoint.decode(), flush=True)
zmq.proxy(router, dealer)
