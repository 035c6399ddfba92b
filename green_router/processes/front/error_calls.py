"""Asks on_error, in a worker, what a client gets whose request has failed here: it timed out, or its worker is gone.

Rules of this file
  1. A question is given out as a request is: to a worker whose loop turns, within its window. It waits for such a worker
     for as long as it takes; a client that gets its reply late is better off than one that gets none. How long on_error
     itself may take, the worker sees to (front_worker.py).
  2. It does not go to a worker that has the request in hand: that one may be why the request is late. It may go there
     as soon as that worker has said that it gave the request up.
  3. A question that is lost with its worker is asked again, TRIES times in all: one of them may be what kills workers.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.event import AsyncResult

from ...errors import HandlerError, WorkerLost
from ...messages.request import Request
from ..channel.protocol import described, origin
from .backend import Lane, Parcel

TRIES = 3
"""How many workers a question may cost."""


class Question:
    """What on_error is asked.

    Attributes:
        parcel: the request, where a worker may still have it in hand.
        tries: how many workers were asked.
        answer: its result is (pid of the worker, whether on_error has returned, the body or what went wrong).
    """

    __slots__ = ("answer", "error", "parcel", "request", "tries")

    def __init__(self, request: Request, error: BaseException, parcel: Parcel | None) -> None:
        self.request, self.error, self.parcel = request, error, parcel
        self.tries = 0
        self.answer: Any = AsyncResult()

    def held_by(self, lane: Lane) -> bool:
        """Whether that worker has the request in hand."""
        return self.parcel is not None and lane.parcels.get(self.parcel.key) is self.parcel


class Explaining:
    """The questions. Made in the serving thread.

    Args:
        secured: whether peers have user ids.
        schedule: called when there is something to give out.
    Attributes:
        waiting: questions that no worker has.
    """

    def __init__(self, secured: bool, schedule: Callable[[], None]) -> None:
        self._secured, self._schedule = secured, schedule
        self.waiting: deque[Question] = deque()
        self._next_token = 0

    def ask(self, request: Request, error: BaseException, parcel: Parcel | None) -> bytes | list[bytes] | None:
        """As an errand: ask, and return the answer. **Blocks** until a worker has given one.

        Raises:
            HandlerError: on_error has raised, or cannot be asked.
            WorkerLost: as many workers as may be are lost.
        """
        question = Question(request, error, parcel)
        self.waiting.append(question)
        self._schedule()
        pid, fine, answer = question.answer.get()
        if not fine:
            raise HandlerError(f"in worker process {pid}: {answer}")
        body: bytes | list[bytes] | None = answer
        return body

    def give_out(self, lanes: list[Lane], window: int) -> None:
        """HUB. Give each question to the one of these workers that has least in hand, for as long as one has room."""
        for _ in range(len(self.waiting)):
            free = [lane for lane in lanes if lane.busy < window]
            if not free:
                break
            question = self.waiting.popleft()
            lane = min((lane for lane in free if not question.held_by(lane)), key=lambda lane: lane.busy, default=None)
            if lane is None:
                self.waiting.append(question)
            else:
                self._give(question, lane)

    def _give(self, question: Question, lane: Lane) -> None:
        self._next_token += 1
        request = question.request
        try:
            lane.send([("explain", self._next_token, described(question.error), request.hops, request.received_at,
                        request.frames, *origin(request, self._secured))])
        except (ValueError, MemoryError) as error:
            question.answer.set_exception(HandlerError(f"a frame is too large for a worker process ({error})"))
        else:
            question.tries += 1
            lane.questions[self._next_token] = question

    def answered(self, lane: Lane, token: int, fine: bool, answer: Any) -> None:
        """HUB. A worker's on_error has returned, or raised."""
        question = lane.questions.pop(token)
        question.answer.set((lane.pid, fine, answer))

    def lost(self, lane: Lane, error: WorkerLost) -> None:
        """HUB. A worker is gone: ask others what it was asked."""
        for question in lane.questions.values():
            if question.tries < TRIES:
                self.waiting.append(question)
            else:
                question.answer.set_exception(error)
        lane.questions.clear()
