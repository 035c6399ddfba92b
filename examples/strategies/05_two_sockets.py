"""One ROUTER receives, another sends; other clients.

Each of the two threads has a ROUTER and may wait without a timeout: one for a request, the other
for a reply in a queue. The requests come to the endpoint, the replies leave from the next port. A
client has two connections, and gives both the same routing id, so that the second ROUTER knows it
by the name that the first one saw. Handlers run in a pool of 32 threads: so many requests are
handled at the same time, and not one more.

What it teaches
  The wait is solved, and the problem moved to the clients: a REQ socket cannot do this, and every
  client in every language must be changed. Routing ids are no longer given by the ROUTER; whoever
  makes them up must make them unique. And the two connections come up on their own: a reply may be
  there before its way back is. Then the sender must wait, and everybody behind it waits too;
  without ROUTER_MANDATORY the reply would be gone without a word.

    $ python examples/strategies/05_two_sockets.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/strategies/05_two_sockets.py tcp://127.0.0.1:5555 hello
    hello

With more than an endpoint it is the client. REPLY_SECONDS in the environment says how long each
reply takes (default 0).
"""

import os
import queue
import select
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import zmq

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))


def handle_request(data):
    if seconds:
        time.sleep(seconds)
    return data


def next_port(endpoint):
    host, _, port = endpoint.rpartition(":")
    return f"{host}:{int(port) + 1}"


def bind_both(context):
    while True:
        receiver, sender = context.socket(zmq.ROUTER), context.socket(zmq.ROUTER)
        sender.setsockopt(zmq.ROUTER_MANDATORY, 1)
        receiver.bind(endpoint)
        try:
            sender.bind(next_port(receiver.last_endpoint.decode()))
            return receiver, sender
        except zmq.ZMQError:
            receiver.close()
            sender.close()
            if not endpoint.endswith("*"):
                raise  # else there is another pair of ports


def serve(context):
    receiver, sender = bind_both(context)
    replies = queue.SimpleQueue()
    pool = ThreadPoolExecutor(32)
    threading.Thread(target=send_all, args=(sender, replies), daemon=True).start()
    print("serving on", receiver.last_endpoint.decode(), flush=True)

    def answer(client_id, data):
        replies.put((client_id, handle_request(data)))

    while True:
        client_id, data = receiver.recv_multipart()
        pool.submit(answer, client_id, data)


def send_all(sender, replies):
    while True:
        client_id, data = replies.get()
        patience = time.monotonic() + 1
        while True:
            try:
                sender.send_multipart([client_id, data])
                break
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
                if time.monotonic() > patience:
                    break  # the client is gone
                sender.poll(1)  # lets the socket look at new connections


class Client:
    """What a client must become: two sockets, one name.

    send(requests) sends them; replies(enough) returns replies that have come, all or as many as are
    enough, without waiting; fileno() is readable when there may be some.
    """

    def __init__(self, context, endpoint):
        self.sender, self.receiver = context.socket(zmq.DEALER), context.socket(zmq.DEALER)
        routing_id = os.urandom(8)
        for socket, address in ((self.receiver, next_port(endpoint)), (self.sender, endpoint)):
            socket.setsockopt(zmq.ROUTING_ID, routing_id)
            socket.setsockopt(zmq.LINGER, 0)
            socket.connect(address)

    def fileno(self):
        return self.receiver.fileno()

    def send(self, requests):
        send = self.sender.send
        for data in requests:
            send(data)

    def replies(self, enough):
        receive = self.receiver.recv
        replies = []
        try:
            while len(replies) < enough:
                replies.append(receive(zmq.NOBLOCK))
        except zmq.Again:
            pass
        return replies

    def close(self):
        self.sender.close()
        self.receiver.close()


if __name__ == "__main__":
    with zmq.Context() as context:
        if len(sys.argv) > 2:
            client = Client(context, endpoint)
            for word in sys.argv[2:]:
                client.send([word.encode()])
                while not (replies := client.replies(1)):
                    select.select([client], [], [], 1)
                print(replies[0].decode())
            client.close()
        else:
            serve(context)
