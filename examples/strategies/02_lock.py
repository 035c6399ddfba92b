"""One socket for all threads, behind a mutex: why not.

The thought: handlers run in threads, and each sends its own reply on the ROUTER; a mutex sees to it
that one thread uses the socket at a time.

Why libzmq forbids it
  A socket is no file descriptor with a queue behind it. Every call on it, also poll and a receive
  that waits, handles commands that the I/O thread has put in the socket's mailbox: it changes the
  tables of connections, and consumes the signal that another thread's wait depends on. So
  zmq_socket(3): a socket must not be used from several threads, but for handing it over with a full
  memory barrier.

  To hold the mutex for each send and receive is not enough: the receiver waits in poll, outside of
  it, and poll is a use too. Tried here with 16 threads, 14 times for two seconds: mostly it
  answered to the end; some runs stopped answering in the middle, for ever and without a word; one
  aborted the process:

      Assertion failed: erased (src/socket_base.cpp:2140)
      free(): double free detected in tcache 2

  To hold the mutex during poll as well is allowed, and worth nothing: while the receiver waits
  nobody can send. The wait must be short again, and every reply waits for the end of it: the poll
  loop with threads added.

What it teaches
  A socket has one owner. Who has a reply gives it to the owner; the question is how the owner
  learns of it.

    $ python examples/strategies/02_lock.py
    documentation only: a ROUTER behind a mutex stops answering, or aborts the process
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import zmq


def serve(endpoint, handle_request):
    """Do not call this."""
    lock = threading.Lock()
    pool = ThreadPoolExecutor(16)
    router = zmq.Context().socket(zmq.ROUTER)
    router.bind(endpoint)

    def answer(client_id, data):
        reply = handle_request(data)
        with lock:
            router.send_multipart([client_id, b"", reply])

    while True:
        router.poll()  # a use of the socket without the mutex; with it, nobody could send
        with lock:
            client_id, _, data = router.recv_multipart()
        pool.submit(answer, client_id, data)


sys.exit("documentation only: a ROUTER behind a mutex stops answering, or aborts the process")
