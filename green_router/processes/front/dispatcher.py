"""Hands requests to worker processes: in the place of the handler greenlets.

Rules of this file
  1. It has the interface of ``Handlers`` (serving/handlers.py): the owner puts requests in
     ``inbox`` and calls ``schedule``; replies go to the mailbox. The owner does not know the
     difference, and no code of the application runs here.
  2. The worker that has least in hand gets the next request, and none has more than ``window``:
     what is lost with a worker is bounded, and the rest waits here, where the next free worker
     takes it. One that was told to give a request up and has not said that it did gets nothing: its
     loop may be blocked, and then it only looks idle.
  3. A request is claimed here (messages/in_flight.py), as everywhere: a worker says what became of
     it, and this file lets the first say so. Deadlines are kept here too: they hold where a
     worker's loop is blocked.
  4. A worker that ends takes its requests along: they fail with WorkerLost, or go to another worker
     where that is allowed and nothing of their reply has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from weakref import ref

import gevent
from gevent.hub import get_hub

from ...errors import HandlerError, WorkerLost
from ...hub import forked
from ...messages.in_flight import Holder, InFlight
from ...messages.ledger import (
    ABANDONED,
    FAILED,
    LATE,
    LOST,
    PEER_GONE,
    PUSHES,
    RETRIED,
    STREAM_ITEMS,
    TIMED_OUT,
    Ledger,
)
from ...messages.request import Request
from ...serving.deadlines import Deadlines
from ...serving.departures import has_departed
from ...serving.failures import Failures
from ...serving.mailbox import Mailbox
from ...serving.reply_envelope import AddressedPush, ReplyEnvelope
from ...serving.results import Results
from ...serving.turns import Turns
from ..channel import protocol
from ..channel.encoding import origin
from ..channel.protocol import Body, Message, Route
from .access_calls import AccessCalls
from .backend import Assignment, Backend
from .error_calls import ErrorCalls

NEVER = None, 0
"""Of a request with which no worker was lost."""


class Dispatcher:
    """Runs handlers in other processes. Made in the serving thread.

    Args:
        window: the most that one worker has in hand.
        retries: how many workers may be lost with one request before it fails.
        secured: whether peers have user ids.
        inbox: requests that wait for a worker, the oldest first; the owner appends.
        in_flight, results, failures, mailbox, deadlines, turns, ledger: the neighbours, as
            ``Handlers`` has them.
    Attributes:
        inbox: likewise.
        backends: the workers that get requests.
        access_calls: asks them who may connect.
        scheduled: as ``Workplace`` says.
    """

    def __init__(
        self,
        window: int,
        retries: int,
        secured: bool,
        inbox: deque[Request],
        in_flight: InFlight,
        results: Results,
        failures: Failures,
        mailbox: Mailbox,
        deadlines: Deadlines,
        turns: Turns,
        ledger: Ledger,
    ) -> None:
        self.window, self._retries, self._secured = window, retries, secured
        self._in_flight, self._mailbox, self._ledger = in_flight, mailbox, ledger
        self._results, self._failures = results, failures
        self._deadlines, self._turns = deadlines, turns
        self._loop = get_hub().loop
        self.inbox = inbox
        self.backends: list[Backend] = []
        self._error_calls = ErrorCalls(secured, self.schedule)
        self.access_calls = AccessCalls(self.backends)
        self._next_key = 1
        # Of those that wait again, by their ids, how many workers were lost with them; one that has
        # timed out meanwhile forgets itself.
        self._tries: dict[int, tuple[ref[Request], int]] = {}
        self.scheduled = False
        self._tasks: set[gevent.Greenlet[..., None]] = set()
        forked.arm(self)

    # -- as Handlers -------------------------------------------------------------------------------

    def schedule(self) -> None:
        """See to it that the hub hands out what is in the inbox."""
        if not self.scheduled:
            self.scheduled = True
            self._turns.soon(self.relay)

    def run(self, task: Callable[[], None]) -> None:
        """Call this in a greenlet, soon."""
        greenlet = gevent.spawn(self._run_task, task)
        self._tasks.add(greenlet)
        greenlet.rawlink(self._tasks.discard)

    def _run_task(self, task: Callable[[], None]) -> None:
        try:
            task()
        except BaseException as error:
            self._failures.bug(error)

    def occupy(self, change: int) -> None:
        """Nothing: coroutines are at work in workers."""

    def quiet(self, told: Callable[[], None]) -> bool:
        """True: its worker sees to what is at work after its reply."""
        return True

    def at_work(self) -> list[Holder]:
        """None: they are elsewhere."""
        return []

    def peer_gone(self, request: Request) -> None:
        """OWNER. The connection that this open request came by has ended: its worker settles it,
        unless that is done here."""
        holder = self._in_flight.holder(request)
        self._results.departures.settle(request)
        if isinstance(holder, Assignment) and self._in_flight.owes(request):
            holder.backend.send([protocol.peer_gone(holder.key)])

    def tell_gone(self, routing_id: bytes) -> None:
        """OWNER. Call on_disconnect in each worker, before what that client asks next."""
        for backend in self.backends:
            backend.send([protocol.disconnected(routing_id)])

    def abandon(self) -> list[Request]:
        """Take back the requests that no worker has. The caller settles them."""
        waiting = list(self.inbox)
        self.inbox.clear()
        return waiting

    def close(self) -> None:
        """HUB or OWNER. End what still waits for a worker."""
        for greenlet in list(self._tasks):
            greenlet.kill(block=False)

    def disarm(self) -> None:
        """In a forked child: hand out nothing."""
        self.inbox.clear()
        forked.hold(self._tasks)

    # -- handing out -------------------------------------------------------------------------------

    def relay(self) -> None:
        """HUB. Give each request to the worker that has least in hand, for as long as one has
        room."""
        self.scheduled = False
        try:
            self._turns.begin()
            free = [backend for backend in self.backends if not backend.ending]
            if self._error_calls.waiting:
                self._error_calls.give_out(free, self.window)
            if self.inbox and free:
                self._hand_out(free)
            if not self._deadlines.watching:
                self._deadlines.watch()
        except BaseException as error:
            self._failures.bug(error)
        self._mailbox.wake()

    def _hand_out(self, free: list[Backend]) -> None:
        """HUB. Level by level: each worker that has no more than the least busy one gets one."""
        inbox, window, open_, tries, secured = (
            self.inbox,
            self.window,
            self._in_flight.open,
            self._tries,
            self._secured,
        )
        key, retried = self._next_key, len(tries)
        level = min(backend.busy for backend in free)
        while inbox and level < window:
            for backend in free:
                if len(backend.assignments) + len(backend.on_error_calls) <= level:
                    request = inbox.popleft()
                    tried = tries.pop(id(request), NEVER)[1] if retried else 0
                    backend.assignments[key] = open_[id(request)] = Assignment(
                        request, backend, key, tried
                    )
                    backend.batch.append(
                        (
                            key,
                            request.envelope_length,
                            request.received_at,
                            request.frames,
                            *origin(request, secured),
                        )
                    )
                    key += 1
                    if not inbox:
                        break
            level += 1
        self._next_key = key
        if len(tries) < retried:
            self._sort_open()
        for backend in free:
            if backend.batch:
                self._flush(backend)

    def _sort_open(self) -> None:
        """HUB. A request that is tried again is entered last, but it may be the oldest; deadlines
        go by the order."""
        open_ = self._in_flight.open
        holders = sorted(
            open_.items(), key=lambda item: item[1].request.received_at if item[1].request else 0.0
        )
        open_.clear()
        open_.update(holders)

    def _flush(self, backend: Backend) -> None:
        batch, backend.batch = backend.batch, []
        backend.ledger.received += len(batch)
        try:
            backend.send(batch)
        except (ValueError, MemoryError):
            self._send_singly(backend, batch)
        if backend.limit is not None and backend.ledger.received >= backend.limit:
            backend.has_done_its_share()

    def _send_singly(self, backend: Backend, batch: list[Message]) -> None:
        """One of these cannot be written: it fails, the others go on."""
        for message in batch:
            try:
                backend.send([message])
            except ValueError as error:
                self._fail(
                    backend, message[0], f"a frame is too large for a worker process ({error})"
                )
            except MemoryError:
                self._fail(backend, message[0], "there is no memory to send it to a worker process")

    def _fail(self, backend: Backend, key: int, words: str) -> None:
        """HUB. Fail a request that no channel can carry."""
        assignment = backend.assignments.pop(key, None)
        if assignment is None or assignment.request is None:
            return
        if self._failed(assignment):  # what cannot be carried is what on_error has said
            backend.ledger.counts[FAILED] += 1
            self._mailbox.put((assignment.request, None, FAILED))
        elif self._in_flight.owes(assignment.request):
            backend.ledger.counts[FAILED] += 1
            self._failures.fail(assignment.request, HandlerError(words))
        else:
            backend.ledger.counts[self._fate_elsewhere(assignment)] += 1

    # -- what workers say --------------------------------------------------------------------------

    def add(self, backend: Backend) -> None:
        """HUB. From now on this worker gets requests, if it is open."""
        if not backend.open:
            return
        backend.routes.add(*self._routes(backend))
        self.backends.append(backend)
        self.access_calls.come()
        self.schedule()

    def close_backend(self, backend: Backend) -> None:
        """HUB. Give this worker no more requests."""
        backend.close()
        if backend in self.backends:
            self.backends.remove(backend)

    def retire(self, backend: Backend, drained: Callable[[], None]) -> None:
        """HUB. Give this worker no more; call back, in the hub, when it has settled what it has."""
        self.close_backend(backend)
        backend.tell_drained(drained)
        self._loop.run_callback(backend.check_drained)

    def lost(self, backend: Backend, cause: str) -> None:
        """HUB. The worker is gone, and everything that it said has been heard."""
        self.close_backend(backend)
        error = WorkerLost(backend.pid, cause)
        assignments = list(backend.assignments.values())
        backend.assignments.clear()
        backend.ending.clear()
        again = []
        for assignment in assignments:
            request = assignment.request
            if request is not None and self._failed(assignment):
                # on_error is lost with its worker: another one is asked.
                self._in_flight.hold(request)
            if request is None or not self._in_flight.owes(request):
                backend.ledger.counts[self._fate_elsewhere(assignment)] += 1
                continue
            self._count(backend, LOST)
            if has_departed(request):
                backend.ledger.counts[PEER_GONE] += 1
                self._results.settle(request, None, PEER_GONE)
            elif (
                assignment.tries < self._retries
                and not assignment.streamed
                and not assignment.failing
            ):
                self._in_flight.claim(request)
                self._remember(request, assignment.tries + 1)
                self._count(backend, RETRIED)
                again.append(request)
            else:
                backend.ledger.counts[FAILED] += 1
                self._failures.fail(request, error)
        if again:
            backend.ledger.received -= len(again)
            self._put_back(again)
        self._error_calls.lost(backend, error)
        self.access_calls.lost(backend)
        backend.check_drained()
        self.schedule()

    def _remember(self, request: Request, tries: int) -> None:
        table, key = self._tries, id(request)
        table[key] = ref(request, lambda _: table.pop(key, None)), tries

    def _put_back(self, requests: list[Request]) -> None:
        """HUB. Let these wait for another worker, in order of arrival."""
        waiting = sorted([*requests, *self.inbox], key=lambda request: request.received_at)
        self.inbox.clear()
        self.inbox.extend(waiting)
        self._deadlines.watch()  # they may be older than the one whose deadline is watched

    def received(self, backend: Backend, batch: list[Message]) -> None:
        """HUB. Do what a worker says."""
        assignments, claim, put = backend.assignments, self._in_flight.open.pop, self._mailbox.put
        counts = backend.ledger.counts
        for message in batch:
            if message[0].__class__ is not int:
                backend.routes.take(message)
                continue
            key, fate, body = message
            if fate == STREAM_ITEMS:
                self._part(backend, key, body)
                continue
            assignment = assignments.pop(key, None)
            if assignment is None:
                self._count(backend, LATE)
            elif claim(id(assignment.request), None) is not None or self._failed(assignment):
                put((assignment.request, body, fate))
                counts[fate] += 1
            else:
                self._count(backend, LATE)
                counts[self._fate_elsewhere(assignment)] += 1
        if backend.open:
            if self.inbox or self._error_calls.waiting:
                self.schedule()
        else:
            backend.check_drained()

    def _failing(self, backend: Backend, key: int) -> None:
        """HUB. A handler has failed, and its worker asks on_error: once. No deadline here may have
        it asked again."""
        assignment = backend.assignments.get(key)
        if (
            assignment is not None
            and assignment.request is not None
            and self._in_flight.claim(assignment.request)
        ):
            assignment.failing = True
            self._failures.in_on_error[id(assignment.request)] = assignment.request

    def _failed(self, assignment: Assignment) -> bool:
        """HUB. True if its handler has failed and nobody has settled it; the caller does."""
        return (
            assignment.failing
            and self._failures.in_on_error.pop(id(assignment.request), None) is not None
        )

    def _count(self, backend: Backend, event: int, count: int = 1) -> None:
        backend.ledger.counts[event] += count
        self._ledger.counts[event] += count

    def _fate_elsewhere(self, assignment: Assignment) -> int:
        """Return the fate of a request that somebody else has settled, before its worker could be
        told."""
        if self._results.stopped:
            return ABANDONED
        return (
            TIMED_OUT
            if assignment.request is not None and self._results.time_left(assignment.request) == 0.0
            else PEER_GONE
        )

    def _part(self, backend: Backend, key: int, body: bytes | list[bytes]) -> None:
        """HUB. An item of a stream; one whose request is settled ends the stream."""
        assignment = backend.assignments.get(key)
        if assignment is None or assignment.request is None:
            self._count(backend, LATE)
        elif self._in_flight.owes(assignment.request):
            assignment.streamed = True
            backend.ledger.counts[STREAM_ITEMS] += 1
            self._mailbox.put((assignment.request, body, STREAM_ITEMS))
        else:
            backend.give_up(key, self._fate_elsewhere(assignment))

    def _routes(self, backend: Backend) -> tuple[Route, ...]:
        """Return the table of what this worker says of its work, beside the fates of its
        requests."""
        return (
            protocol.ended.to(partial(self._given_up, backend)),
            protocol.push.to(partial(self._push, backend)),
            protocol.pair.to(partial(self._push_pair, backend)),
            protocol.event.to(partial(self._count, backend)),
            protocol.when_clear.to(partial(self._when_clear, backend)),
            protocol.on_error_ended.to(partial(self._error_calls.answered, backend)),
            protocol.authorized.to(self.access_calls.answered),
            protocol.failing.to(partial(self._failing, backend)),
            protocol.unsendable.to(partial(self._fail, backend)),
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

    def call_on_error(self, request: Request, error: BaseException) -> bytes | list[bytes] | None:
        """In a greenlet: ask on_error, in a worker, what a client gets. **Blocks**; raises as
        ``ErrorCalls.ask`` does."""
        having = (
            assignment
            for backend in self.backends
            for assignment in backend.assignments.values()
            if assignment.request is request
        )
        return self._error_calls.ask(request, error, next(having, None))
