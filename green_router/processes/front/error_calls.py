"""Asks on_error, in a worker, what a client gets whose request has failed here: it timed out, or
its worker is gone.

Rules of this file
  1. A call is given out as a request is: to a worker whose loop turns, within its window. It waits
     for such a worker for as long as it takes; a client that gets its reply late is better off than
     one that gets none. How long on_error itself may take, the worker sees to (front_worker.py).
  2. It does not go to a worker that has the request in hand: that one may be why the request is
     late. It may go there as soon as that worker has said that it gave the request up.
  3. A call that is lost with its worker is made again, TRIES times in all: one of them may be what
     kills workers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.event import AsyncResult

from ...errors import HandlerError, WorkerLost
from ...messages.request import Request
from ..channel import protocol
from ..channel.encoding import described, origin
from .backend import Assignment, Backend

TRIES = 3
"""How many workers a call may cost."""


class OnErrorCall:
    """A call of on_error in a worker.

    Attributes:
        assignment: the request, where a worker may still have it in hand.
        tries: how many workers were asked.
        answer: its result is (pid of the worker, whether on_error has returned, the body or what
            went wrong).
    """

    __slots__ = ("answer", "assignment", "error", "request", "tries")

    def __init__(
        self, request: Request, error: BaseException, assignment: Assignment | None
    ) -> None:
        self.request, self.error, self.assignment = request, error, assignment
        self.tries = 0
        self.answer: Any = AsyncResult()

    def held_by(self, backend: Backend) -> bool:
        """True if that worker has the request in hand."""
        return (
            self.assignment is not None
            and backend.assignments.get(self.assignment.key) is self.assignment
        )


class ErrorCalls:
    """The calls of on_error.

    Args:
        backends: the workers, as they come and go.
        schedule: called when there is something to give out.
    Attributes:
        waiting: calls that no worker has.
    """

    def __init__(self, backends: list[Backend], schedule: Callable[[], None]) -> None:
        self._backends, self._schedule = backends, schedule
        self.waiting: deque[OnErrorCall] = deque()
        self._next_token = 0

    def ask(self, request: Request, error: BaseException) -> bytes | list[bytes] | None:
        """In a greenlet: ask, and return the answer. **Blocks** until a worker has given one.

        Raises:
            HandlerError: on_error has raised, or cannot be asked.
            WorkerLost: as many workers as may be are lost.
        """
        having = (
            assignment
            for backend in self._backends
            for assignment in backend.assignments.values()
            if assignment.request is request
        )
        call = OnErrorCall(request, error, next(having, None))
        self.waiting.append(call)
        self._schedule()
        pid, fine, answer = call.answer.get()
        if not fine:
            raise HandlerError(f"in worker process {pid}: {answer}")
        body: bytes | list[bytes] | None = answer
        return body

    def give_out(self, backends: list[Backend], window: int, secured: bool) -> None:
        """HUB. Give each call to the one of these workers that has least in hand, for as long as
        one has room; ``secured`` where peers have user ids."""
        for _ in range(len(self.waiting)):
            free = [backend for backend in backends if backend.busy < window]
            if not free:
                break
            call = self.waiting.popleft()
            able = (backend for backend in free if not call.held_by(backend))
            backend = min(able, key=lambda backend: backend.busy, default=None)
            if backend is None:
                self.waiting.append(call)
            else:
                self._give(call, backend, secured)

    def _give(self, call: OnErrorCall, backend: Backend, secured: bool) -> None:
        self._next_token += 1
        request = call.request
        try:
            backend.send(
                [
                    protocol.call_on_error(
                        self._next_token,
                        described(call.error),
                        request.envelope_length,
                        request.received_at,
                        request.frames,
                        *origin(request, secured),
                    )
                ]
            )
        except (ValueError, MemoryError) as error:
            call.answer.set_exception(
                HandlerError(f"a frame is too large for a worker process ({error})")
            )
        else:
            call.tries += 1
            backend.on_error_calls[self._next_token] = call

    def answered(self, backend: Backend, token: int, fine: bool, answer: Any) -> None:
        """HUB. A worker's on_error has returned, or raised."""
        call = backend.on_error_calls.pop(token)
        call.answer.set((backend.pid, fine, answer))

    def lost(self, backend: Backend, error: WorkerLost) -> None:
        """HUB. A worker is gone: ask others what it was asked."""
        for call in backend.on_error_calls.values():
            if call.tries < TRIES:
                self.waiting.append(call)
            else:
                call.answer.set_exception(error)
        backend.on_error_calls.clear()
