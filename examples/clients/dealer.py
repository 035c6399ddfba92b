"""A DEALER client in plain pyzmq: all requests at once, and the replies as they come.

What stands before the empty frame comes back with the reply. So the number put there tells which
request is answered, in whatever order the replies come.

    $ python examples/echo.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/dealer.py tcp://127.0.0.1:5555 red green blue
    1 red -> red
    2 green -> green
    3 blue -> blue
"""

import sys

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
asked = {
    str(number).encode(): text for number, text in enumerate(sys.argv[2:] or ["hello"], start=1)
}

with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
    socket.linger = 0
    socket.connect(endpoint)
    for number, text in asked.items():
        socket.send_multipart([number, b"", text.encode()])
    while asked:
        number, _, reply = socket.recv_multipart()
        print(number.decode(), asked.pop(number), "->", reply.decode(), flush=True)
