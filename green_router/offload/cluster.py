"""A cluster of Dask, by way of one process that is its client.

Rules of this file
  1. Dask's client works in no process that gevent has patched, and stops the hub of one that is
     not: it lives in a process of its own (dask_client.py), for as many calls at once as there are.
  2. A native thread writes calls, another one reads what came of them. A future that is cancelled
     cancels its call there.
  3. That process ends with this one. Where it ends alone, the calls that it had fail, and the next
     one starts another.
"""

from __future__ import annotations

from contextlib import suppress
from itertools import count
from typing import Any

from ..errors import OffloadFailed
from . import child
from .future import OffloadFuture
from .processes import Process, call_of, not_started, settle
from .threads import Threads, start_new_thread


class ClientProcess(Process):
    """The process. Attributes: calls, by their numbers, that it has not answered."""

    def __init__(self, address: str) -> None:
        self.calls: dict[int, OffloadFuture] = {}
        super().__init__("dask", address)


class Cluster(Threads):
    """An executor whose calls a cluster of Dask makes.

    Args:
        address: of the scheduler, as Dask has it: ``tcp://scheduler:8786``.
    """

    def __init__(self, address: str) -> None:
        super().__init__(1)
        self._address = address
        self._client: ClientProcess | None = None
        self._numbers = count(1)

    def _take(self, number: int, future: OffloadFuture) -> None:
        """The thread that writes."""
        if future.done():
            client = self._client
            if (
                future.number is not None
                and client is not None
                and client.calls.pop(future.number, None) is not None
            ):
                self._write(client, future.number, child.pack(None))
            return
        parts = call_of(future)
        if parts is None:
            return
        future.number = next(self._numbers)
        try:
            with self._lock:
                client = self._client
                if client is None:
                    client = self._client = ClientProcess(self._address)
                    start_new_thread(self._listen, (client,))
                client.calls[future.number] = future
        except OSError as error:
            not_started(future, error)
            return
        future.forget()
        future.add_done_callback(self._if_cancelled)
        self._write(client, future.number, parts)

    def _if_cancelled(self, future: object) -> None:
        """ANY THREAD."""
        if isinstance(future, OffloadFuture) and future.cancelled():
            self._calls.put(future)

    @staticmethod
    def _write(client: ClientProcess, number: int, parts: list[list[Any]]) -> None:
        with suppress(OSError):  # it has ended: reading tells
            child.write(client.socket, number, parts)

    def _listen(self, client: ClientProcess) -> None:
        """A thread for each process."""
        with suppress(EOFError, OSError):
            while True:
                number, parts = child.read(client.socket)
                future = client.calls.pop(number, None)
                if future is not None:
                    settle(future, parts)
                del future, parts
        with self._lock:
            if self._client is client:
                self._client = None
        how = client.bury()
        why = (
            "the executor was shut down"
            if self._closed
            else f"process {client.pid}, the client of Dask, {how}"
        )
        while client.calls:
            client.calls.popitem()[1].settle(None, OffloadFailed(f"a call has no result: {why}"))

    def _leave(self, number: int) -> None:
        client = self._client
        if client is not None:
            client.hang_up()

    def disarm(self) -> None:
        """In a forked child: the socket is the parent's."""
        super().disarm()
        if self._client is not None:
            self._client.socket.close()
            self._client = None
