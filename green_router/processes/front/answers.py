"""Takes what workers say: what became of their requests, and what they send besides.

Rules of this file
  1. A request is claimed here (messages/in_flight.py), as everywhere: a worker says what became of
     it, and whoever says so first settles it. What another one has settled is late, and counted.
  2. A handler that has failed has its request claimed before on_error is asked in its worker, so
     that no deadline here has it asked again; what on_error says is the answer.
  3. Each message is counted twice: in the ledger of its worker, and, where the owner does not count
     it, in the server's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial

from ...errors import HandlerError
from ...messages.in_flight import InFlight
from ...messages.ledger import (
    ABANDONED,
    FAILED,
    LATE,
    PEER_GONE,
    PUSHES,
    STREAM_ITEMS,
    TIMED_OUT,
    Ledger,
)
from ...messages.request import Request
from ...serving.failures import Failures
from ...serving.mailbox import Mailbox
from ...serving.reply_envelope import AddressedPush, ReplyEnvelope
from ...serving.results import Results
from ..channel import protocol
from ..channel.protocol import Body, Message, Route
from .access_calls import AccessCalls
from .backend import Assignment, Backend
from .error_calls import ErrorCalls


class Answers:
    """Takes what workers say. Made in the serving thread.

    Args:
        inbox: requests that wait for a worker.
        in_flight, results, failures, mailbox, ledger: the neighbours, as ``Handlers`` has them.
        error_calls, access_calls: what workers are asked.
        schedule: called when a worker may have room for more.
    """

    def __init__(
        self,
        inbox: deque[Request],
        in_flight: InFlight,
        results: Results,
        failures: Failures,
        mailbox: Mailbox,
        ledger: Ledger,
        error_calls: ErrorCalls,
        access_calls: AccessCalls,
        schedule: Callable[[], None],
    ) -> None:
        self._inbox, self._in_flight = inbox, in_flight
        self._results, self._failures = results, failures
        self._mailbox, self._ledger, self._schedule = mailbox, ledger, schedule
        self._error_calls, self._access_calls = error_calls, access_calls

    def taker(self, backend: Backend) -> Callable[[list[Message]], None]:
        """HUB. Return what is called with each batch that this worker sends from now on."""
        backend.routes.add(*self._routes(backend))
        return partial(self._received, backend)

    def _received(self, backend: Backend, batch: list[Message]) -> None:
        """HUB. Do what a worker says."""
        assignments, claim, put = backend.assignments, self._in_flight.open.pop, self._mailbox.put
        counts = backend.ledger.counts
        for message in batch:
            if message[0].__class__ is not int:
                backend.routes.take(message)
                continue
            key, fate, body = message
            if fate == STREAM_ITEMS:
                self._item(backend, key, body)
                continue
            assignment = assignments.pop(key, None)
            if assignment is None:
                self.count(backend, LATE)
            elif claim(id(assignment.request), None) is not None or self.claim_failed(assignment):
                put((assignment.request, body, fate))
                counts[fate] += 1
            else:
                self.count(backend, LATE)
                counts[self.fate_elsewhere(assignment)] += 1
        if backend.open:
            if self._inbox or self._error_calls.waiting:
                self._schedule()
        else:
            backend.check_drained()

    def _asks_on_error(self, backend: Backend, key: int) -> None:
        """HUB. A handler has failed, and its worker asks on_error: once. No deadline here may have
        it asked again."""
        assignment = backend.assignments.get(key)
        if (
            assignment is not None
            and assignment.request is not None
            and self._in_flight.claim(assignment.request)
        ):
            assignment.failing = True
            self._failures.enter_on_error(assignment.request)

    def claim_failed(self, assignment: Assignment) -> bool:
        """HUB. True if its handler has failed and its on_error has not returned; the caller
        settles it."""
        request = assignment.request
        return assignment.failing and request is not None and self._failures.leave_on_error(request)

    def count(self, backend: Backend, event: int, count: int = 1) -> None:
        """HUB. Count an event, of a worker and of all."""
        backend.ledger.counts[event] += count
        self._ledger.counts[event] += count

    def fate_elsewhere(self, assignment: Assignment) -> int:
        """Return the fate of a request that somebody else has settled, before its worker could be
        told."""
        if self._results.stopped:
            return ABANDONED
        return (
            TIMED_OUT
            if assignment.request is not None and self._results.time_left(assignment.request) == 0.0
            else PEER_GONE
        )

    def _item(self, backend: Backend, key: int, body: bytes | list[bytes]) -> None:
        """HUB. An item of a stream; one whose request is settled ends the stream."""
        assignment = backend.assignments.get(key)
        if assignment is None or assignment.request is None:
            self.count(backend, LATE)
        elif self._in_flight.owes(assignment.request):
            assignment.streamed = True
            backend.ledger.counts[STREAM_ITEMS] += 1
            self._mailbox.put((assignment.request, body, STREAM_ITEMS))
        else:
            backend.give_up(key, self.fate_elsewhere(assignment))

    def _routes(self, backend: Backend) -> tuple[Route, ...]:
        """Return the table of what this worker says of its work, beside the fates of its
        requests."""
        return (
            protocol.ended.to(partial(self._given_up, backend)),
            protocol.push.to(partial(self._push, backend)),
            protocol.pair.to(partial(self._push_pair, backend)),
            protocol.event.to(partial(self.count, backend)),
            protocol.when_clear.to(partial(self._when_clear, backend)),
            protocol.on_error_ended.to(partial(self._error_calls.answered, backend)),
            protocol.authorized.to(self._access_calls.answered),
            protocol.failing.to(partial(self._asks_on_error, backend)),
            protocol.unsendable.to(partial(self.unsendable, backend)),
        )

    def _given_up(self, backend: Backend, key: int) -> None:
        backend.ending.discard(key)

    def _push(self, backend: Backend, envelope: list[bytes], body: Body) -> None:
        backend.ledger.counts[PUSHES] += 1
        self._mailbox.put((ReplyEnvelope(envelope, len(envelope)), body, PUSHES))

    def _push_pair(self, backend: Backend, envelope: list[bytes], body: Body) -> None:
        backend.ledger.counts[PUSHES] += 1
        self._mailbox.put((AddressedPush(envelope, self._results.unknown_client), body, PUSHES))

    def _when_clear(self, backend: Backend, token: int, peer: bytes) -> None:
        tell = partial(backend.send, [protocol.clear(token)])
        self._mailbox.put(partial(self._results.windows.when_clear, peer, tell))

    def unsendable(self, backend: Backend, key: int, words: str) -> None:
        """HUB. Fail a request that no channel can carry."""
        assignment = backend.assignments.pop(key, None)
        if assignment is None or assignment.request is None:
            return
        if self.claim_failed(assignment):  # what cannot be carried is what on_error has said
            backend.ledger.counts[FAILED] += 1
            self._mailbox.put((assignment.request, None, FAILED))
        elif self._in_flight.owes(assignment.request):
            backend.ledger.counts[FAILED] += 1
            self._failures.fail(assignment.request, HandlerError(words))
        else:
            backend.ledger.counts[self.fate_elsewhere(assignment)] += 1
