"""Work in other processes: a pool of two, whose functions may keep the GIL for as long as they
like.

offload hands each request, as plain data, to a process of the pool, and no greenlet waits for it.
The processes come from a fork server, so they have nothing of this one's: no thread, no connection,
no lock that somebody holds. They ignore Ctrl-C, which a terminal sends to all processes at once:
the server drains then, and they finish what they have in hand.

    $ python examples/processes.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/asyncio_client.py tcp://127.0.0.1:5555 1000 10000 100000
    1000: 168 primes
    10000: 1229 primes
    100000: 9592 primes
"""

import logging
import multiprocessing
import signal
import sys
from concurrent.futures import ProcessPoolExecutor

from green_router import Server, offload


def ignore_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def count_primes(request):
    limit = int(request.data)
    primes = bytearray(b"\1") * limit
    primes[:2] = b"\0\0"
    for n in range(2, int(limit**0.5) + 1):
        if primes[n]:
            primes[n * n :: n] = bytes(len(range(n * n, limit, n)))
    return f"{limit}: {sum(primes)} primes".encode()


if __name__ == "__main__":  # the fork server imports this file, too
    endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    context = multiprocessing.get_context("forkserver")
    with ProcessPoolExecutor(2, context, ignore_ctrl_c) as pool:
        Server(offload(count_primes, pool)).serve_forever(endpoint)
