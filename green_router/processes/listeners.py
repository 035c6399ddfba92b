"""Listening sockets that outlive the workers which serve them.

Rules of this file
  1. Every worker slot has a TCP socket of its own on the one port (SO_REUSEPORT), so that the kernel spreads connections
     over the slots; an ipc path has one socket, which all slots share.
  2. They stay open here while workers come and go: a connection that is made meanwhile waits in the kernel's queue, and
     the slot's next worker serves it. Closing one would reset what waits in its queue.
  3. They do not block. libzmq does not see to that itself, and the worker that loses the race for a connection would
     hang in accept, with all of its clients.
"""
from __future__ import annotations

import errno
import os
import socket
from collections.abc import Iterable
from contextlib import ExitStack, suppress

from ..errors import BindError
from ..serving.sockets import advice, check_ipc_path

FIRST = 1
"""The slot whose sockets are made at once: a port that the system chooses is known then."""


class Listeners:
    """The sockets of all endpoints.

    Args:
        endpoints: ``tcp://address:port`` (0 or * for any port), ``ipc://path``.
        backlog: how many connections may wait in the queue of each.
    Raises:
        BindError: one of them cannot be served; nothing is left open.
    """

    def __init__(self, endpoints: Iterable[str], backlog: int) -> None:
        self._backlog = backlog
        self._tcp: list[tuple[str, int]] = []
        self._shared: list[tuple[str, socket.socket]] = []
        self._paths: list[tuple[str, int]] = []
        self._slots: dict[int, list[tuple[str, socket.socket]]] = {}
        try:
            for endpoint in endpoints:
                self._open(endpoint)
        except BaseException:
            self.close()
            raise

    @property
    def endpoints(self) -> tuple[str, ...]:
        """All of them, with their real ports."""
        return (*(_tcp_endpoint(host, port) for host, port in self._tcp), *(endpoint for endpoint, _ in self._shared))

    def of(self, slot: int) -> list[tuple[str, int]]:
        """(endpoint, descriptor) of what a slot listens on; made when it is asked for first. Raises BindError."""
        if slot not in self._slots:
            with ExitStack() as unless_all:
                made = []
                for host, port in self._tcp:
                    endpoint = _tcp_endpoint(host, port)
                    made.append((endpoint, unless_all.enter_context(self._listen(endpoint, host, port))))
                unless_all.pop_all()
            self._slots[slot] = made
        return [(endpoint, listener.fileno()) for endpoint, listener in [*self._slots[slot], *self._shared]]

    def _open(self, endpoint: str) -> None:
        transport, _, address = endpoint.partition("://")
        if transport == "ipc" and address and address != "*":
            self._open_ipc(endpoint, address)
        elif transport == "tcp" and ":" in address:
            host, _, port = address.rpartition(":")
            try:
                number = 0 if port == "*" else int(port)
            except ValueError:
                raise BindError(endpoint, "write tcp://address:port", errno.EINVAL) from None
            self._check_free(endpoint, host, number)
            listener = self._listen(endpoint, host, number)
            number = listener.getsockname()[1]
            self._tcp.append((host, number))
            self._slots.setdefault(FIRST, []).append((_tcp_endpoint(host, number), listener))
        else:
            raise BindError(endpoint, "workers that serve clients themselves need tcp://address:port or ipc://path",
                            errno.EPROTONOSUPPORT)

    def _open_ipc(self, endpoint: str, path: str) -> None:
        if not path.startswith("@"):
            check_ipc_path(endpoint, path)
        listener = socket.socket(socket.AF_UNIX)
        try:
            if not path.startswith("@"):
                with suppress(FileNotFoundError):
                    os.unlink(path)         # left over by a process that was killed: nobody listens
            listener.bind("\0" + path[1:] if path.startswith("@") else path)
            listener.listen(self._backlog)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise BindError(endpoint, advice(error.errno or 0) or str(error), error.errno) from None
        self._shared.append((endpoint, listener))
        if not path.startswith("@"):
            self._paths.append((path, os.stat(path).st_ino))

    @staticmethod
    def _check_free(endpoint: str, host: str, port: int) -> None:
        """SO_REUSEPORT would share the port with a stranger of the same user: refuse where somebody listens."""
        with _socket(endpoint, host) as probe:
            _bind(probe, endpoint, host, port)

    def _listen(self, endpoint: str, host: str, port: int) -> socket.socket:
        listener = _socket(endpoint, host)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            _bind(listener, endpoint, host, port)
            listener.listen(self._backlog)
            listener.setblocking(False)
        except BaseException:
            listener.close()
            raise
        return listener

    def release(self, slot: int) -> None:
        """Close what a slot listens on: nobody serves it. What waits in its queue is reset, before it could be asked
        anything; what connects goes to the other slots."""
        for _, listener in self._slots.pop(slot, []):
            listener.close()

    def close(self) -> None:
        """Close everything, and remove the paths that are still ours."""
        for slot in list(self._slots):
            self.release(slot)
        for _, listener in self._shared:
            listener.close()
        self._shared.clear()
        for path, inode in self._paths:
            with suppress(OSError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
        self._paths.clear()


def _tcp_endpoint(host: str, port: int) -> str:
    return f"tcp://{'0.0.0.0' if host == '*' else host}:{port}"


def _socket(endpoint: str, host: str) -> socket.socket:
    made = socket.socket(socket.AF_INET6 if host.startswith("[") else socket.AF_INET)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if host.startswith("["):
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    return made


def _bind(listener: socket.socket, endpoint: str, host: str, port: int) -> None:
    try:
        listener.bind(("" if host == "*" else host.strip("[]"), port))
    except socket.gaierror:
        raise BindError(endpoint, "write the address as a number, or * for all", errno.EINVAL) from None
    except (OSError, OverflowError) as error:
        number = getattr(error, "errno", None)
        raise BindError(endpoint, advice(number or errno.EINVAL) or str(error), number) from None
