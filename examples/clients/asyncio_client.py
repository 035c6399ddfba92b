"""An asyncio client in plain pyzmq: many REQ sockets wait at the same time, each for at most five
seconds.

    $ python examples/drop_in.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/asyncio_client.py tcp://127.0.0.1:5555 red green blue
    RED
    GREEN
    BLUE
"""

import asyncio
import sys

import zmq
import zmq.asyncio

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"


async def ask(context, text):
    with context.socket(zmq.REQ) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        await socket.send_string(text)
        return await asyncio.wait_for(socket.recv_string(), timeout=5)


async def main():
    with zmq.asyncio.Context() as context:
        for reply in await asyncio.gather(
            *(ask(context, text) for text in sys.argv[2:] or ["hello"])
        ):
            print(reply)


asyncio.run(main())
