"""A DEALER client in plain pyzmq that asks once and prints every message that comes, until an empty
one.

    $ python examples/stream.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/listen.py tcp://127.0.0.1:5555 "one two"
    one
    two
"""

import sys

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
text = sys.argv[2] if len(sys.argv) > 2 else "hello"

with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
    socket.linger = 0
    socket.connect(endpoint)
    socket.send_multipart([b"", text.encode()])
    while True:
        _, message = socket.recv_multipart()
        if not message:
            break
        print(message.decode(), flush=True)
