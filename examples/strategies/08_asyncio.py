"""zmq.asyncio: a task for each request.

The event loop waits for the socket; a task runs the handler and sends its reply itself. Tasks of
one loop run in one thread and change only at an await, so they may share the socket.

What it teaches
  Nothing turns, and any number of requests may wait. The price is paid in every request: futures, a
  task, and turns of the loop around each receive and each send, all in Python. And the handler must
  be written anew: async def, and await in all that it calls; one ordinary call that blocks, deep
  inside a library, stops all other clients.

    $ python examples/strategies/08_asyncio.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 hello
    hello

REPLY_SECONDS in the environment says how long each reply takes (default 0).
"""

import asyncio
import os
import sys

import zmq
import zmq.asyncio

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))


async def handle_request(data):
    if seconds:
        await asyncio.sleep(seconds)
    return data


async def serve():
    router = zmq.asyncio.Context().socket(zmq.ROUTER)
    router.bind(endpoint)
    tasks = set()  # the loop alone would not keep them alive
    print("serving on", router.last_endpoint.decode(), flush=True)

    async def answer(client_id, data):
        await router.send_multipart([client_id, b"", await handle_request(data)])

    while True:
        client_id, _, data = await router.recv_multipart()
        task = asyncio.create_task(answer(client_id, data))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


asyncio.run(serve())
