"""What a service manager does: it listens, sets LISTEN_FDS, and becomes the service
(systemd-socket-activate(1)).

Usage: activate.py ADDRESS... -- COMMAND...

An address is PORT of 127.0.0.1 or a path, with ``=NAME`` behind it for LISTEN_FDNAMES. They become
descriptors 3, 4, ...
"""

from __future__ import annotations

import os
import socket
import sys

FIRST = 3

border = sys.argv.index("--")
names, opened = [], []
for text in sys.argv[1:border]:
    address, _, name = text.partition("=")
    names.append(name)
    opened.append(socket.socket(socket.AF_INET if address.isdigit() else socket.AF_UNIX))
    opened[-1].bind(("127.0.0.1", int(address)) if address.isdigit() else address)
    opened[-1].listen(10)
# Out of the way of each other.
above = [os.dup2(each.fileno(), 100 + number) for number, each in enumerate(opened)]
for number, descriptor in enumerate(above):
    os.dup2(descriptor, FIRST + number)
os.environ.update(
    LISTEN_FDS=str(len(opened)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=":".join(names)
)
os.execv(sys.argv[border + 1], sys.argv[border + 1 :])
