"""Listening sockets that outlive the workers which serve them.

Rules of this file
  1. Every worker slot has a TCP socket of its own on the one port (SO_REUSEPORT), so that the
     kernel spreads connections over the slots; an ipc path has one socket, which all slots share,
     and so has what another program has made (fd://3).
  2. They stay open here while workers come and go: a connection that is made meanwhile waits in the
     kernel's queue, and the slot's next worker serves it. Closing one would reset what waits in its
     queue.
  3. They do not block. libzmq does not see to that itself, and the worker that loses the race for a
     connection would hang in accept, with all of its clients.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from contextlib import ExitStack, nullcontext

from ..hub.log import Log
from .addresses import Address, IpcAddress, TcpAddress, place_of, refuse_second
from .endpoints import cannot_bind, check_text
from .inherited import SCHEME, descriptor_of, listening_at
from .locks import alone_at
from .paths import ListeningPath

log = Log("sockets")

FIRST = 1
"""The slot whose sockets are made at once: a port that the system chooses is known then."""


class Listeners:
    """The sockets of all endpoints.

    Args:
        endpoints: ``tcp://address:port`` (* for all addresses, 0 or * for any port),
            ``ipc://path``.
        backlog: how many connections may wait in the queue of each.
        ipc_mode: the permissions of the files of ipc paths.
    Raises:
        BindError: one of them cannot be served; nothing is left open.
    """

    def __init__(self, endpoints: Iterable[str], backlog: int, ipc_mode: int = 0o600) -> None:
        self._backlog, self._mode = backlog, ipc_mode
        self._given: list[tuple[str, Address]] = []
        self._tcp: list[TcpAddress] = []
        self._shared: list[tuple[str, socket.socket]] = []
        self._paths: list[ListeningPath] = []
        self._slots: dict[int, list[tuple[str, socket.socket]]] = {}
        try:
            for endpoint in endpoints:
                self._open(endpoint)
        except BaseException:
            self.close()
            raise

    @property
    def endpoints(self) -> tuple[str, ...]:
        """The endpoints, with their real ports."""
        return (
            *(place.endpoint for place in self._tcp),
            *(endpoint for endpoint, _ in self._shared),
        )

    def of(self, slot: int) -> list[tuple[str, int]]:
        """(endpoint, descriptor) of what a slot listens on; made when it is asked for first. Raises
        BindError."""
        if slot not in self._slots:
            with ExitStack() as unless_all:
                made = []
                for place in self._tcp:
                    made.append(
                        (
                            place.endpoint,
                            unless_all.enter_context(self._listen(place.endpoint, place)),
                        )
                    )
                unless_all.pop_all()
            self._slots[slot] = made
        return [
            (endpoint, listener.fileno())
            for endpoint, listener in [*self._slots[slot], *self._shared]
        ]

    def _open(self, endpoint: str) -> None:
        check_text(endpoint)
        if endpoint.startswith(SCHEME):
            self._take(endpoint)
            return
        place = place_of(endpoint)
        self._refuse_second(endpoint, place)
        if isinstance(place, IpcAddress):
            self._open_ipc(endpoint, place)
        else:
            with alone_at(place.port, log.warning) if place.port else nullcontext():
                self._open_tcp(endpoint, place)

    def _refuse_second(self, endpoint: str, place: Address) -> None:
        refuse_second(endpoint, place, self._given)
        self._given.append((endpoint, place))

    def _take(self, endpoint: str) -> None:
        """Take a listening socket of another program: there is but this one, so all slots share
        it."""
        descriptor = descriptor_of(endpoint)
        real = listening_at(endpoint, descriptor)
        self._refuse_second(endpoint, place_of(real))
        self._shared.append((real, socket.socket(fileno=descriptor)))

    def _open_tcp(self, endpoint: str, place: TcpAddress) -> None:
        # SO_REUSEPORT would share the port with a stranger of the same user: refuse where somebody
        # listens.
        place.bound(endpoint).close()
        listener = self._listen(endpoint, place)
        real = place._replace(port=listener.getsockname()[1])
        self._tcp.append(real)
        self._slots.setdefault(FIRST, []).append((real.endpoint, listener))

    def _open_ipc(self, endpoint: str, place: IpcAddress) -> None:
        if not place.abstract:
            self._paths.append(ListeningPath(endpoint, self._backlog, log.warning, self._mode))
            self._shared.append((endpoint, self._paths[-1].socket))
            return
        listener = socket.socket(place.family)
        try:
            listener.bind(place.address)
            listener.listen(self._backlog)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise cannot_bind(endpoint, error) from None
        self._shared.append((endpoint, listener))

    def _listen(self, endpoint: str, place: TcpAddress) -> socket.socket:
        listener = place.bound(endpoint, socket.SO_REUSEPORT)
        try:
            listener.listen(self._backlog)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise cannot_bind(endpoint, error) from None
        return listener

    def release(self, slot: int) -> None:
        """Close what a slot listens on: nobody serves it. What waits in its queue is reset, before
        it could be asked anything; what connects goes to the other slots."""
        for _, listener in self._slots.pop(slot, []):
            listener.close()

    def close(self) -> None:
        """Close everything, and remove the paths that are still ours."""
        for slot in list(self._slots):
            self.release(slot)
        while self._paths:
            self._paths.pop().remove()
        for _, listener in self._shared:
            listener.close()
        self._shared.clear()
