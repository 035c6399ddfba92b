"""A REQ client in plain pyzmq: one request, one reply, then the next.

It asks whatever server is there:

    $ python examples/echo.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello world
    hello
    world
"""

import sys

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"

with zmq.Context() as context, context.socket(zmq.REQ) as socket:
    socket.linger = 0  # or Ctrl-C would wait until somebody serves the endpoint
    socket.connect(endpoint)
    for text in sys.argv[2:] or ["hello"]:
        socket.send_string(text)
        print(socket.recv_string(), flush=True)
