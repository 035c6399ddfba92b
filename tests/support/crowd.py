"""Clients under load: each asks one thing after the other, and checks every reply.

Rules of this file
  1. A client that is not patient (a lazy pirate) closes its socket after a while and asks the same
     again; one that is never asks twice.
  2. A reply that is not the answer to the last question is wrong, and there is no excuse for it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, TypeVar

import zmq
from command_line import LIMIT_SECONDS

Kind = TypeVar("Kind", bound="Askers")


class Askers:
    """Threads that ask, from ``with``, which waits until each has had a reply, to its end.

    Args:
        asks: what each does, given its number: until ``_end`` is set; it releases ``_begun`` when
            it has had a reply, or ends.
        count: how many.
    Attributes:
        faults: what went wrong, in words.
    """

    def __init__(self, asks: Callable[[int], None], count: int) -> None:
        self.faults: list[str] = []
        self._end = threading.Event()
        self._lock = threading.Lock()
        self._begun = threading.Semaphore(0)
        self._threads = [threading.Thread(target=asks, args=(number,)) for number in range(count)]

    def __enter__(self: Kind) -> Kind:
        for thread in self._threads:
            thread.start()
        for _ in self._threads:
            assert self._begun.acquire(timeout=LIMIT_SECONDS)
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        for thread in self._threads:
            thread.join()


class Crowd(Askers):
    """REQ clients, a thread each.

    Args:
        context: for their sockets.
        endpoint: of the service.
        clients: how many.
        patience: seconds before a client asks again; None for never.
        excuse: a reply that says the request was lost.
    Attributes:
        answered, excused, retried: how often.
    """

    def __init__(
        self,
        context: zmq.Context[Any],
        endpoint: str,
        clients: int = 8,
        patience: float | None = None,
        excuse: bytes | None = None,
    ) -> None:
        self._context, self._endpoint, self._patience, self._excuse = (
            context,
            endpoint,
            patience,
            excuse,
        )
        self.answered = self.excused = self.retried = 0
        super().__init__(self._ask_on, clients)

    def _socket(self) -> zmq.Socket[bytes]:
        made = self._context.socket(zmq.REQ)
        made.linger = 0
        made.connect(self._endpoint)
        return made

    def _ask_on(self, number: int) -> None:
        client = self._socket()
        begun, serial = False, 0
        while not self._end.is_set():
            serial += 1
            data = b"%d of %d" % (serial, number)
            client.send(data)
            until = time.monotonic() + LIMIT_SECONDS
            while not client.poll(1000 * (self._patience or LIMIT_SECONDS)):
                if self._patience is None or time.monotonic() > until:
                    self._note(fault=f"no reply to {data!r}")
                    client.close()
                    self._begun.release()
                    return
                self._note(retried=1)
                client.close()
                client = self._socket()
                client.send(data)
            reply = client.recv()
            if reply == data:
                self._note(answered=1)
            elif reply == self._excuse:
                self._note(excused=1)
            else:
                self._note(fault=f"the reply to {data!r} is {reply!r}")
            if not begun:
                begun = True
                self._begun.release()
        client.close()

    def _note(
        self, answered: int = 0, excused: int = 0, retried: int = 0, fault: str | None = None
    ) -> None:
        with self._lock:
            self.answered += answered
            self.excused += excused
            self.retried += retried
            if fault is not None:
                self.faults.append(fault)
