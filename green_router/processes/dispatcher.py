"""Hands requests to worker processes: in the place of the handler greenlets.

Rules of this file
  1. It has the interface of ``Handlers`` (serving/handlers.py): the owner puts requests in ``inbox`` and calls
     ``schedule``; replies go to the mailbox. The owner does not know the difference, and no code of the application runs
     here.
  2. The worker that has least in hand gets the next request, and none has more than ``window``: what is lost with a
     worker is bounded, and the rest waits here, where the next free worker takes it.
  3. A request is claimed here (messages/in_flight.py), as everywhere: a worker says what became of it, and this file
     lets the first say so. Deadlines are kept here too: they hold where a worker's loop is blocked.
  4. A worker that ends takes its requests along: they fail with WorkerLost, or go to another worker where that is
     allowed and nothing of their reply has left.

What is said on a line (line.py)
  to a worker      ``(key, hops, received_at, frames, address, user_id)`` a request; ``("end", key, seconds)`` give it up;
                   ``("explain", token, error, hops, received_at, frames, address, user_id)`` ask on_error;
                   ``("clear", token)`` that peer has taken everything
  from a worker    ``(key, fate, body)`` what became of it, or a part of a stream; ``("push", envelope, body)``;
                   ``("event", index, count)``; ``("explained", token, fine, body)``; ``("clear", token, peer)`` tell me when
Whatever else a line carries is the supervisor's.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
from gevent.event import AsyncResult
from gevent.hub import get_hub

from ..errors import HandlerError, WorkerLost
from ..messages.in_flight import InFlight
from ..messages.ledger import FAILED, LATE, PARTS, PUSHES, Ledger
from ..messages.request import Request
from ..serving.deadlines import Deadlines
from ..serving.mail import Remains
from ..serving.mailbox import Mailbox
from ..serving.outcomes import Outcomes
from .lane import Lane, Parcel, held
from .line import Message
from .plain import described, origin


class Inbox(InFlight):
    """The requests that no worker has, as a table for deadlines: the first is the oldest here too."""

    __slots__ = ("_overdue", "waiting")

    def __init__(self, waiting: deque[Request], overdue: Callable[[Request], None]) -> None:
        super().__init__()
        self.waiting, self._overdue = waiting, overdue

    def oldest(self) -> Request | None:
        return self.waiting[0] if self.waiting else None

    def overdue(self, received_before: float) -> list[Request]:
        found = []
        while self.waiting and self.waiting[0].received_at <= received_before:
            found.append(self.waiting.popleft())
            self._overdue(found[-1])
        return found


class Nobody:
    """In the place of a parcel, for a request that ends before a worker had it."""

    request: Request | None = None

    def throw(self, error: BaseException) -> None:
        """There is no handler to end."""


class Dispatcher:
    """Runs handlers in other processes. Made in the serving thread.

    Args:
        window: the most requests that one worker has in hand.
        retries: how many workers may be lost with one request before it fails.
        secured: whether peers have user ids.
        timeout: as the setting ``handler_timeout``.
        in_flight, outcomes, mailbox, deadlines, ledger: the neighbours, as ``Handlers`` has them.
    Attributes:
        inbox: requests that wait for a worker; the owner appends.
        lanes: the workers that get requests.
    """

    def __init__(self, window: int, retries: int, secured: bool, timeout: float | None, in_flight: InFlight,
                 outcomes: Outcomes, mailbox: Mailbox, deadlines: Deadlines, ledger: Ledger) -> None:
        self.window, self._retries, self._secured = window, retries, secured
        self._in_flight, self._outcomes, self._mailbox, self._ledger = in_flight, outcomes, mailbox, ledger
        self._deadlines = deadlines
        self._loop = get_hub().loop
        self.inbox: deque[Request] = deque()
        self.lanes: list[Lane] = []
        self._all: set[Lane] = set()
        self._inbox_deadlines = Deadlines(timeout, Inbox(self.inbox, self._hold), outcomes.time_out)
        self._next_key = 1
        self._tries: dict[int, int] = {}
        self._scheduled = False
        self._errands: set[gevent.Greenlet[..., None]] = set()
        self._staffed = gevent.event.Event()
        self._nobody = Nobody()

    # -- as Handlers -----------------------------------------------------------------------------------------------

    def schedule(self) -> None:
        """See to it that the hub hands out what is in the inbox."""
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._relay)

    def run(self, errand: Callable[[], None]) -> None:
        """Call this in a greenlet, soon."""
        greenlet = gevent.spawn(self._run_errand, errand)
        self._errands.add(greenlet)
        greenlet.rawlink(self._errands.discard)

    def _run_errand(self, errand: Callable[[], None]) -> None:
        try:
            errand()
        except BaseException as error:
            self._outcomes.bug(error)

    def abandon(self) -> list[Request]:
        """Take back the requests that no worker has. The caller settles them."""
        waiting = list(self.inbox)
        self.inbox.clear()
        self._tries.clear()
        return waiting

    def close(self) -> None:
        """HUB or OWNER. End what still waits for a worker."""
        self._inbox_deadlines.close()
        for greenlet in list(self._errands):
            greenlet.kill(block=False)

    # -- handing out -----------------------------------------------------------------------------------------------

    def _relay(self) -> None:
        """HUB. Give each request to the worker that has least in hand, for as long as one has room."""
        self._scheduled = False
        inbox, lanes, window, open_ = self.inbox, self.lanes, self.window, self._in_flight.open
        tries, secured = self._tries, self._secured
        key, again = self._next_key, len(tries)
        while inbox:
            least = window
            chosen = None
            for lane in lanes:
                if len(lane.parcels) < least:
                    chosen, least = lane, len(lane.parcels)
            if chosen is None:
                break
            request = inbox.popleft()
            parcel = Parcel(request, chosen, key, tries.pop(id(request), 0) if tries else 0)
            chosen.parcels[key] = open_[id(request)] = parcel
            chosen.batch.append((key, request.hops, request.received_at, request.frames, *origin(request, secured)))
            key += 1
        if len(tries) < again:
            self._sort_open()
        self._next_key = key
        for lane in list(lanes):
            if lane.batch:
                self._flush(lane)
        if not self._deadlines.watching:
            self._deadlines.watch()
        if inbox and not self._inbox_deadlines.watching:
            self._inbox_deadlines.watch()

    def _sort_open(self) -> None:
        """HUB. A request that is tried again is entered last, but it may be the oldest; deadlines go by the order."""
        open_ = self._in_flight.open
        parcels = sorted(open_.items(), key=lambda item: item[1].request.received_at if item[1].request else 0.0)
        open_.clear()
        open_.update(parcels)

    def _flush(self, lane: Lane) -> None:
        batch, lane.batch = lane.batch, []
        lane.ledger.received += len(batch)
        try:
            lane.line.send(batch)
        except ValueError:
            self._send_singly(lane, batch)
        if lane.limit is not None and lane.worn is not None and lane.ledger.received >= lane.limit:
            worn, lane.worn = lane.worn, None
            worn()

    def _send_singly(self, lane: Lane, batch: list[Message]) -> None:
        """One of these cannot be written: it fails, the others go on."""
        for message in batch:
            try:
                lane.line.send([message])
            except ValueError as error:
                parcel = lane.parcels.pop(message[0])
                lane.ledger.counts[FAILED] += 1
                self._outcomes.fail(held(parcel), HandlerError(f"a frame is too large for a worker process ({error})"))

    def _hold(self, request: Request) -> None:
        """HUB. Enter an overdue request in the table, so that it can be claimed."""
        self._tries.pop(id(request), None)
        self._in_flight.open[id(request)] = self._nobody

    # -- what workers say ------------------------------------------------------------------------------------------

    def add(self, lane: Lane) -> None:
        """HUB. From now on this worker gets requests."""
        self.lanes.append(lane)
        self._all.add(lane)
        self._staffed.set()
        self.schedule()

    def retire(self, lane: Lane, emptied: Callable[[], None]) -> None:
        """HUB. It gets no more; call back, in the hub, when it has settled what it has."""
        self._close_lane(lane)
        lane.emptied = emptied
        self._loop.run_callback(lane.check_emptied)

    def _close_lane(self, lane: Lane) -> None:
        lane.open = False
        if lane in self.lanes:
            self.lanes.remove(lane)
        if not self.lanes:
            self._staffed.clear()

    def lost(self, lane: Lane, cause: str) -> None:
        """HUB. The worker is gone, and everything that it said has been heard."""
        self._close_lane(lane)
        self._all.discard(lane)
        error = WorkerLost(lane.pid, cause)
        parcels = list(lane.parcels.values())
        lane.parcels.clear()
        again = []
        for parcel in parcels:
            request = held(parcel)
            if not self._in_flight.owes(request):
                continue
            if parcel.tries < self._retries and not parcel.parts:
                self._in_flight.claim(request)
                self._tries[id(request)] = parcel.tries + 1
                again.append(request)
            else:
                lane.ledger.counts[FAILED] += 1
                self._outcomes.fail(request, error)
        lane.ledger.received = lane.ledger.settled
        self.inbox.extendleft(reversed(again))
        for waiting in lane.explaining.values():
            waiting.set_exception(error)
        lane.explaining.clear()
        lane.check_emptied()
        self.schedule()

    def received(self, lane: Lane, batch: list[Message]) -> list[Message]:
        """HUB. Do what a worker says; returns the messages that are not for this file."""
        parcels, open_, put = lane.parcels, self._in_flight.open, self._mailbox.put
        counts = lane.ledger.counts
        others = []
        for message in batch:
            if message[0].__class__ is not int:
                if not self._hear(lane, message):
                    others.append(message)
                continue
            key, fate, body = message
            if fate == PARTS:
                self._part(lane, key, body)
                continue
            parcel = parcels.pop(key, None)
            if parcel is not None and open_.pop(id(parcel.request), None) is not None:
                put((parcel.request, body, fate))
                counts[fate] += 1
            else:
                self._ledger.counts[LATE] += 1
        if self.inbox and lane.open:
            self.schedule()
        if not lane.open:
            lane.check_emptied()
        return others

    def _part(self, lane: Lane, key: int, body: bytes | list[bytes]) -> None:
        """HUB. A part of a stream; one whose request is settled ends the stream."""
        parcel = lane.parcels.get(key)
        if parcel is None:
            self._ledger.counts[LATE] += 1
        elif self._in_flight.owes(held(parcel)):
            parcel.parts = True
            self._mailbox.put((parcel.request, body, PARTS))
        else:
            lane.give_up(key, None)

    def _hear(self, lane: Lane, message: Message) -> bool:
        """HUB. One that is no reply; False if it is not for this file."""
        match message:
            case ("push", envelope, body):
                self._mailbox.put((Remains(envelope, len(envelope)), body, PUSHES))
            case ("event", index, count):
                self._ledger.counts[index] += count
            case ("clear", token, peer):
                self._mailbox.put(partial(self._outcomes.when_clear, peer, partial(lane.line.send, [("clear", token)])))
            case ("explained", token, fine, answer):
                waiting = lane.explaining.pop(token, None)
                if waiting is not None:
                    waiting.set((fine, answer))
            case _:
                return False
        return True

    # -- on_error --------------------------------------------------------------------------------------------------

    def explain(self, request: Request, error: BaseException) -> bytes | list[bytes] | None:
        """As an errand: ask on_error, in a worker, what a client gets. **Blocks** until a worker has answered.

        It is asked in another worker than the one that has the request in hand, where there is one: that one may be why
        the request is late.
        """
        while not self.lanes:
            self._staffed.wait()
        holders = [lane for lane in self.lanes if any(parcel.request is request for parcel in lane.parcels.values())]
        lane = min((lane for lane in self.lanes if lane not in holders), key=lambda lane: lane.busy, default=self.lanes[0])
        token, self._next_key = self._next_key, self._next_key + 1
        waiting: AsyncResult[Any] = AsyncResult()
        lane.explaining[token] = waiting
        lane.line.send([("explain", token, described(error), request.hops, request.received_at, request.frames,
                         *origin(request, self._secured))])
        try:
            outcome: Any = waiting.get()
        finally:
            lane.explaining.pop(token, None)
            lane.check_emptied()
        fine, answer = outcome
        if not fine:
            raise HandlerError(f"in worker process {lane.pid}: {answer}")
        return answer       # type: ignore[no-any-return]
