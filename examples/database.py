"""A database: SQLite in a thread of its own, so that the server goes on while it reads and writes.

offload runs the handler in the threads of an executor, and no greenlet waits for it. One thread has
the connection for itself, so each request is one transaction after the other. What is raised as
Reject, the client gets as its reply.

    $ python examples/database.py tcp://127.0.0.1:5555 &
    serving on tcp://127.0.0.1:5555
    $ python examples/clients/req.py tcp://127.0.0.1:5555 "3 apples" "8 apples" "7 apples"
    7 apples are left
    there are no 8 apples
    0 apples are left

A second argument names the file of the database (default: in memory).
"""

import logging
import sqlite3
import sys
from concurrent.futures import ThreadPoolExecutor

from green_router import Reject, Server, offload

endpoint = sys.argv[1] if len(sys.argv) > 1 else "tcp://127.0.0.1:5555"
file = sys.argv[2] if len(sys.argv) > 2 else ":memory:"

# Made here, and used by one thread from then on.
database = sqlite3.connect(file, check_same_thread=False)
with database:
    database.execute("CREATE TABLE IF NOT EXISTS stock (name TEXT PRIMARY KEY, amount INTEGER)")
    database.execute("INSERT OR IGNORE INTO stock VALUES ('apples', 10)")


def take(request):
    amount, name = request.data.decode().split()
    with database:
        taken = database.execute(
            "UPDATE stock SET amount = amount - :amount WHERE name = :name AND amount >= :amount",
            {"amount": int(amount), "name": name},
        )
        if not taken.rowcount:
            raise Reject(f"there are no {amount} {name}".encode())
        (left,) = database.execute("SELECT amount FROM stock WHERE name = ?", [name]).fetchone()
    return f"{left} {name} are left".encode()


logging.basicConfig(level=logging.INFO, format="%(message)s")
Server(offload(take, ThreadPoolExecutor(max_workers=1))).serve_forever(endpoint)
database.close()
