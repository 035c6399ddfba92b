"""In a process of its own: the client of a Dask cluster (cluster.py is the other end).

Rules of this file
  1. Calls are never taken for the same: with Dask's default five equal requests would be called
     once (``pure=False``).
  2. Without a scheduler a call fails at once. A thread connects again, and the next call finds it.
  3. What Dask itself says of a call goes back as a text: the other end knows nothing of its
     classes.
"""

from __future__ import annotations

import threading
import time
import warnings
from _queue import SimpleQueue
from concurrent.futures import Future
from functools import partial
from typing import Any

CONNECT_SECONDS = 5.0
"""How long one attempt to reach the scheduler may take."""

LOOK_EVERY = 0.2
"""Seconds between two looks at the connection."""

THEIRS = ("distributed", "dask", "tornado", "concurrent")

MISSING = "Dask is not installed here: pip install 'green-router[dask]'"


class Connection:
    """The connection to a scheduler, made again whenever it is lost.

    Args:
        address: of the scheduler.
        make: makes a client of it; raises where that cannot be had.
    """

    def __init__(self, address: str, make: Any) -> None:
        self._address, self._make = address, make
        self._client: Any = None
        self._tried = threading.Event()
        self.reason = ""
        threading.Thread(target=self._keep, name="connects to Dask", daemon=True).start()

    def _keep(self) -> None:
        while True:
            if self._client is None or self._client.status not in ("running", "connecting"):
                try:
                    self._client = self._make(
                        self._address, timeout=CONNECT_SECONDS, set_as_default=False
                    )
                    self.reason = ""
                except Exception as error:
                    self._client, self.reason = None, f"{error}"
            self._tried.set()
            time.sleep(LOOK_EVERY)

    def executor(self) -> Any:
        """Return an executor of the cluster, or None while there is no scheduler. **Blocks** until
        one was tried once."""
        self._tried.wait()
        client = self._client
        return (
            client.get_executor(pure=False)
            if client is not None and client.status == "running"
            else None
        )

    def gone(self) -> str:
        """Say that there is none."""
        return f"there is no Dask scheduler at {self._address}" + (
            f" ({self.reason})" if self.reason else ""
        )


def serve_dask(calls: Any, address: str) -> None:
    """Have calls made by the cluster, as many at once as come, for ever."""
    try:
        import dask

        # Read by the next import.
        dask.config.set(logging={"distributed": "error", "distributed.client": "error"})
        from distributed import Client
    except ImportError:
        while True:
            calls.refuse(calls.next()[0], MISSING)
    warnings.filterwarnings("ignore", "Sending large graph")
    connection = Connection(address, Client)
    answers: SimpleQueue[tuple[int, Any]] = SimpleQueue()
    threading.Thread(
        target=_answer, args=(calls, connection, answers), name="answers", daemon=True
    ).start()
    futures: dict[int, Future[Any]] = {}

    def done(number: int, future: Future[Any]) -> None:
        futures.pop(number, None)
        answers.put((number, future))

    while True:
        number, parts = calls.next()
        try:
            call = calls.call(parts)
            if call is None:
                future = futures.pop(number, None)
                if future is not None:
                    future.cancel()
                continue
            executor = connection.executor()
            if executor is None:
                answers.put((number, connection.gone()))
                continue
            function, arguments, named = call
            future = executor.submit(_call, function, arguments, named)
            futures[number] = future
            future.add_done_callback(partial(done, number))
            del call, arguments, named, future
        except BaseException as error:
            failed: Future[Any] = Future()
            failed.set_exception(error)
            answers.put((number, failed))


def _call(function: Any, arguments: tuple[Any, ...], named: dict[str, Any]) -> Any:
    return function(*arguments, **named)


_call.__module__ = "__main__"  # so that it is sent whole: Dask's workers need not have green_router


def _answer(calls: Any, connection: Connection, answers: SimpleQueue[tuple[int, Any]]) -> None:
    """A thread: writes what came of calls."""
    while True:
        number, future = answers.get()
        if isinstance(future, str):
            calls.refuse(number, future)
        elif future.cancelled():
            calls.refuse(number, f"the call was given up: {connection.gone()}, or it has lost it")
        else:
            error = future.exception()
            if error is not None and type(error).__module__.split(".")[0] in THEIRS:
                calls.refuse(number, f"Dask: {type(error).__name__}: {error}")
            else:
                calls.answer(number, None if error is not None else future.result(), error)
        del future
