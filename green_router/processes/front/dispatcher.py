"""Hands requests to worker processes: in the place of the handler greenlets.

Rules of this file
  1. It has the interface of ``Handlers`` (serving/handlers.py): the owner puts requests in
     ``inbox`` and calls ``schedule``; replies go to the mailbox. The owner does not know the
     difference, and no code of the application runs here.
  2. The worker that has least in hand gets the next request, and none has more than ``window``:
     what is lost with a worker is bounded, and the rest waits here, where the next free worker
     takes it. One that was told to give a request up and has not said that it did gets nothing: its
     loop may be blocked, and then it only looks idle.
  3. Deadlines are kept in this process: they hold where a worker's loop is blocked. So a request
     may have been settled when its worker says what became of it (answers.py).
  4. A worker that ends takes its requests along: they fail with WorkerLost, or go to another worker
     where that is allowed and nothing of their reply has left.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from weakref import ref

import gevent
from gevent.hub import get_hub

from ...errors import WorkerLost
from ...hub import forked
from ...messages.in_flight import Holder, InFlight
from ...messages.ledger import FAILED, LOST, PEER_GONE, RETRIED, Ledger
from ...messages.request import Request
from ...serving.deadlines import Deadlines
from ...serving.departures import has_departed
from ...serving.failures import Failures
from ...serving.mailbox import Mailbox
from ...serving.results import Results
from ...serving.turns import Turns
from ..channel import protocol
from ..channel.encoding import origin
from ..channel.protocol import Message
from .access_calls import AccessCalls
from .answers import Answers
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
        backends: the workers, until they are gone; those that are open get requests.
        access_calls, error_calls: what workers are asked besides.
        inbox: requests that wait for a worker, the oldest first; the owner appends.
        in_flight, results, failures, mailbox, deadlines, turns, ledger: the neighbours, as
            ``Handlers`` has them.
    Attributes:
        inbox, backends: likewise.
        scheduled: as ``Workplace`` says.
    """

    def __init__(
        self,
        window: int,
        retries: int,
        secured: bool,
        backends: list[Backend],
        access_calls: AccessCalls,
        error_calls: ErrorCalls,
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
        self._in_flight, self._mailbox = in_flight, mailbox
        self._results, self._failures = results, failures
        self._deadlines, self._turns = deadlines, turns
        self._loop = get_hub().loop
        self.inbox, self.backends = inbox, backends
        self._access_calls, self._error_calls = access_calls, error_calls
        self._answers = Answers(
            inbox,
            in_flight,
            results,
            failures,
            mailbox,
            ledger,
            error_calls,
            access_calls,
            self.schedule,
        )
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
            free = [backend for backend in self.backends if backend.open and not backend.ending]
            if self._error_calls.waiting:
                self._error_calls.give_out(free, self.window, self._secured)
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
                self._answers.unsendable(
                    backend, message[0], f"a frame is too large for a worker process ({error})"
                )
            except MemoryError:
                self._answers.unsendable(
                    backend, message[0], "there is no memory to send it to a worker process"
                )

    # -- workers come and go -----------------------------------------------------------------------

    def add(self, backend: Backend) -> Callable[[list[Message]], None]:
        """HUB. From now on this worker gets requests. Returns what is called with each batch that
        it sends."""
        self.backends.append(backend)
        self._access_calls.come()
        self.schedule()
        return self._answers.taker(backend)

    def retire(self, backend: Backend, drained: Callable[[], None]) -> None:
        """HUB. Give this worker no more; call back, in the hub, when it has settled what it has."""
        backend.close()
        backend.tell_drained(drained)
        self._loop.run_callback(backend.check_drained)

    def lost(self, backend: Backend, cause: str) -> None:
        """HUB. The worker is gone, and everything that it said has been heard."""
        backend.close()
        if backend in self.backends:
            self.backends.remove(backend)
        error = WorkerLost(backend.pid, cause)
        assignments = list(backend.assignments.values())
        backend.assignments.clear()
        backend.ending.clear()
        again = []
        for assignment in assignments:
            request = assignment.request
            if request is not None and self._answers.claim_failed(assignment):
                # on_error is lost with its worker: another one is asked.
                self._in_flight.hold(request)
            if request is None or not self._in_flight.owes(request):
                backend.ledger.counts[self._answers.fate_elsewhere(assignment)] += 1
                continue
            self._answers.count(backend, LOST)
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
                self._answers.count(backend, RETRIED)
                again.append(request)
            else:
                backend.ledger.counts[FAILED] += 1
                self._failures.fail(request, error)
        if again:
            backend.ledger.received -= len(again)
            self._put_back(again)
        self._error_calls.lost(backend, error)
        self._access_calls.lost(backend)
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
