"""gevent and TCP, no ZeroMQ; other clients.

gevent's StreamServer runs a greenlet for each connection, and that one starts a greenlet for each
request. A message is its length in four bytes, then the bytes. Whoever has a reply sends it:
greenlets of one thread may share a socket, if each message leaves in one piece.

What it teaches
  There is no owner and no wait to solve, and in Python it is not even faster: a system call or two
  for each message, where libzmq puts many into one. And what ZeroMQ did has to be written again:
  here are framing and replies in any order; reconnecting, limits for what piles up, heartbeats, and
  clients in other languages are not.

    $ python examples/strategies/06_raw_tcp.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/strategies/06_raw_tcp.py tcp://127.0.0.1:5555 hello
    hello

With more than an endpoint it is the client. REPLY_SECONDS in the environment says how long each
reply takes (default 0).
"""

import os
import select
import socket
import struct
import sys

import gevent
from gevent.lock import RLock
from gevent.server import StreamServer

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
seconds = float(os.environ.get("REPLY_SECONDS", "0"))
PATIENCE = 5  # seconds that a client waits for a server that does not read


def handle_request(data):
    if seconds:
        gevent.sleep(seconds)
    return data


def framed(data):
    return len(data).to_bytes(4, "big") + data


def address(endpoint):
    host, _, port = endpoint.removeprefix("tcp://").rpartition(":")
    return host, 0 if port == "*" else int(port)


def serve_connection(connection, _):
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    one_at_a_time = RLock()

    def answer(data):
        reply = framed(handle_request(data))
        with one_at_a_time:
            connection.sendall(reply)

    with connection.makefile("rb") as stream:
        while len(length := stream.read(4)) == 4:
            gevent.spawn(answer, stream.read(int.from_bytes(length, "big")))


def serve():
    server = StreamServer(address(endpoint), serve_connection)
    server.start()
    print(f"serving on tcp://{server.server_host}:{server.server_port}", flush=True)
    server.serve_forever()


class Client:
    """A client for it.

    send(requests) sends them; replies(enough) returns all replies that have come, without waiting;
    fileno() is readable when there may be some. It has no use for a ZeroMQ context.
    """

    def __init__(self, context, endpoint):
        self.connection = socket.create_connection(address(endpoint), PATIENCE)
        self.connection.setblocking(True)
        # Of the sends alone: Python's own timeouts cost a system call more in each call.
        self.connection.setsockopt(
            socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", PATIENCE, 0)
        )
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.received = bytearray()

    def fileno(self):
        return self.connection.fileno()

    def send(self, requests):
        try:
            self.connection.sendall(b"".join(map(framed, requests)))
        except BlockingIOError:
            raise TimeoutError(f"the server has read nothing for {PATIENCE} s") from None

    def replies(self, enough):
        try:
            received = self.connection.recv(262144, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return []
        if not received:
            raise ConnectionError("the server has closed the connection")
        self.received += received
        replies, start = [], 0
        with memoryview(self.received) as view:
            while len(view) - start >= 4:
                end = start + 4 + int.from_bytes(view[start : start + 4], "big")
                if len(view) < end:
                    break
                replies.append(bytes(view[start + 4 : end]))
                start = end
        del self.received[:start]
        return replies

    def close(self):
        self.connection.close()


if __name__ == "__main__":
    if len(sys.argv) > 2:
        client = Client(None, endpoint)
        for word in sys.argv[2:]:
            client.send([word.encode()])
            while not (replies := client.replies(1)):
                select.select([client], [], [])
            print(replies[0].decode())
        client.close()
    else:
        serve()
