"""Hands requests to worker processes: in the place of the handler greenlets.

Rules of this file
  1. It has the interface of ``Handlers`` (serving/handlers.py): the owner puts requests in ``inbox`` and calls
     ``schedule``; replies go to the mailbox. The owner does not know the difference, and no code of the application runs
     here.
  2. The worker that has least in hand gets the next request, and none has more than ``window``: what is lost with a
     worker is bounded, and the rest waits here, where the next free worker takes it. One that was told to give a request
     up and has not said that it did gets nothing: its loop may be blocked, and then it only looks idle.
  3. A request is claimed here (messages/in_flight.py), as everywhere: a worker says what became of it, and this file
     lets the first say so. Deadlines are kept here too: they hold where a worker's loop is blocked.
  4. A worker that ends takes its requests along: they fail with WorkerLost, or go to another worker where that is
     allowed and nothing of their reply has left.

What is said on a line (stream.py)
  to a worker      ``(key, hops, received_at, frames, address, user_id)`` a request; ``("end", key, seconds)`` give it up;
                   ``("explain", token, error, hops, received_at, frames, address, user_id)`` ask on_error;
                   ``("clear", token)`` that peer has taken everything
  from a worker    ``(key, fate, body)`` what became of it, or a part of a stream; ``("ended", key)`` it is given up;
                   ``("failing", key)`` its handler has failed, and on_error is asked; ``("unsaid", key, words)`` its reply
                   cannot be carried; ``("push", envelope, body)``,
                   ``("pair", envelope, body)`` the same from a handler's pair; ``("event", index, count)``;
                   ``("explained", token, fine, body)``; ``("clear", token, peer)`` tell me when
Whatever else a line carries is the supervisor's.
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
from ...messages.in_flight import InFlight
from ...messages.ledger import ABANDONED, FAILED, LATE, LOST, PARTS, PEER_GONE, PUSHES, RETRIED, TIMED_OUT, Ledger
from ...messages.request import Request
from ...serving.deadlines import Deadlines
from ...serving.greenlets import Hold
from ...serving.mail import Addressed, Remains
from ...serving.mailbox import Mailbox
from ...serving.outcomes import Outcomes
from ..channel.protocol import origin
from ..channel.stream import Message
from .backend import Lane, Parcel
from .error_calls import Explaining

NEVER = None, 0
"""Of a request with which no worker was lost."""


class Dispatcher:
    """Runs handlers in other processes. Made in the serving thread.

    Args:
        window: the most that one worker has in hand.
        retries: how many workers may be lost with one request before it fails.
        secured: whether peers have user ids.
        in_flight, outcomes, mailbox, deadlines, ledger: the neighbours, as ``Handlers`` has them.
    Attributes:
        inbox: requests that wait for a worker, the oldest first; the owner appends.
        lanes: the workers that get requests.
    """

    def __init__(self, window: int, retries: int, secured: bool, in_flight: InFlight, outcomes: Outcomes, mailbox: Mailbox,
                 deadlines: Deadlines, ledger: Ledger) -> None:
        self.window, self._retries, self._secured = window, retries, secured
        self._in_flight, self._outcomes, self._mailbox, self._ledger = in_flight, outcomes, mailbox, ledger
        self._deadlines = deadlines
        self._loop = get_hub().loop
        self.inbox: deque[Request] = deque()
        deadlines.waiting = self.inbox
        self.lanes: list[Lane] = []
        self._explaining = Explaining(secured, self.schedule)
        self._next_key = 1
        # Of those that wait again, by their ids, how many workers were lost with them; one that has timed out meanwhile
        # forgets itself.
        self._tries: dict[int, tuple[ref[Request], int]] = {}
        self._scheduled = False
        self._errands: set[gevent.Greenlet[..., None]] = set()
        forked.arm(self)

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

    def quiet(self, told: Callable[[], None]) -> bool:
        """True: its worker sees to what is at work after its reply."""
        return True

    def at_work(self) -> list[Hold]:
        """None: they are elsewhere."""
        return []

    def abandon(self) -> list[Request]:
        """Take back the requests that no worker has. The caller settles them."""
        waiting = list(self.inbox)
        self.inbox.clear()
        return waiting

    def close(self) -> None:
        """HUB or OWNER. End what still waits for a worker."""
        for greenlet in list(self._errands):
            greenlet.kill(block=False)

    def disarm(self) -> None:
        """In a forked child: hand out nothing."""
        self.inbox.clear()
        forked.hold(self._errands)

    # -- handing out -----------------------------------------------------------------------------------------------

    def _relay(self) -> None:
        """HUB. Give each request to the worker that has least in hand, for as long as one has room."""
        self._scheduled = False
        try:
            free = [lane for lane in self.lanes if not lane.ending]
            if self._explaining.waiting:
                self._explaining.give_out(free, self.window)
            if self.inbox and free:
                self._hand_out(free)
            if not self._deadlines.watching:
                self._deadlines.watch()
        except BaseException as error:
            self._outcomes.bug(error)

    def _hand_out(self, free: list[Lane]) -> None:
        """HUB. Level by level: each worker that has no more than the least busy one gets one."""
        inbox, window, open_, tries, secured = self.inbox, self.window, self._in_flight.open, self._tries, self._secured
        key, retried = self._next_key, len(tries)
        level = min(lane.busy for lane in free)
        while inbox and level < window:
            for lane in free:
                if len(lane.parcels) + len(lane.questions) <= level:
                    request = inbox.popleft()
                    tried = tries.pop(id(request), NEVER)[1] if retried else 0
                    lane.parcels[key] = open_[id(request)] = Parcel(request, lane, key, tried)
                    lane.batch.append((key, request.hops, request.received_at, request.frames, *origin(request, secured)))
                    key += 1
                    if not inbox:
                        break
            level += 1
        self._next_key = key
        if len(tries) < retried:
            self._sort_open()
        for lane in free:
            if lane.batch:
                self._flush(lane)

    def _sort_open(self) -> None:
        """HUB. A request that is tried again is entered last, but it may be the oldest; deadlines go by the order."""
        open_ = self._in_flight.open
        holders = sorted(open_.items(), key=lambda item: item[1].request.received_at if item[1].request else 0.0)
        open_.clear()
        open_.update(holders)

    def _flush(self, lane: Lane) -> None:
        batch, lane.batch = lane.batch, []
        lane.ledger.received += len(batch)
        try:
            lane.send(batch)
        except (ValueError, MemoryError):
            self._send_singly(lane, batch)
        if lane.limit is not None and lane.worn is not None and lane.ledger.received >= lane.limit:
            worn, lane.worn = lane.worn, None
            worn()

    def _send_singly(self, lane: Lane, batch: list[Message]) -> None:
        """One of these cannot be written: it fails, the others go on."""
        for message in batch:
            try:
                lane.send([message])
            except ValueError as error:
                self._fail(lane, message[0], f"a frame is too large for a worker process ({error})")
            except MemoryError:
                self._fail(lane, message[0], "there is no memory to send it to a worker process")

    def _fail(self, lane: Lane, key: int, words: str) -> None:
        """HUB. What cannot be carried on a line."""
        parcel = lane.parcels.pop(key, None)
        if parcel is None or parcel.request is None:
            return
        if self._failed(parcel):            # what cannot be carried is what on_error has said
            lane.ledger.counts[FAILED] += 1
            self._mailbox.put((parcel.request, None, FAILED))
        elif self._in_flight.owes(parcel.request):
            lane.ledger.counts[FAILED] += 1
            self._outcomes.fail(parcel.request, HandlerError(words))
        else:
            lane.ledger.counts[self._fate_elsewhere(parcel)] += 1

    # -- what workers say ------------------------------------------------------------------------------------------

    def add(self, lane: Lane) -> None:
        """HUB. From now on this worker gets requests."""
        lane.hear = partial(self.received, lane)
        self.lanes.append(lane)
        self.schedule()

    def close_lane(self, lane: Lane) -> None:
        """HUB. It gets no more."""
        lane.open = False
        if lane in self.lanes:
            self.lanes.remove(lane)

    def retire(self, lane: Lane, emptied: Callable[[], None]) -> None:
        """HUB. It gets no more; call back, in the hub, when it has settled what it has."""
        self.close_lane(lane)
        lane.emptied = emptied
        self._loop.run_callback(lane.check_emptied)

    def lost(self, lane: Lane, cause: str) -> None:
        """HUB. The worker is gone, and everything that it said has been heard."""
        self.close_lane(lane)
        error = WorkerLost(lane.pid, cause)
        parcels = list(lane.parcels.values())
        lane.parcels.clear()
        lane.ending.clear()
        again = []
        for parcel in parcels:
            request = parcel.request
            if request is not None and self._failed(parcel):
                self._in_flight.hold(request)       # on_error is lost with its worker: another one is asked
            if request is None or not self._in_flight.owes(request):
                lane.ledger.counts[self._fate_elsewhere(parcel)] += 1
                continue
            self._count(lane, LOST)
            if parcel.tries < self._retries and not parcel.parts and not parcel.failing:
                self._in_flight.claim(request)
                self._remember(request, parcel.tries + 1)
                self._count(lane, RETRIED)
                again.append(request)
            else:
                lane.ledger.counts[FAILED] += 1
                self._outcomes.fail(request, error)
        if again:
            lane.ledger.received -= len(again)
            self._put_back(again)
        self._explaining.lost(lane, error)
        lane.check_emptied()
        self.schedule()

    def _remember(self, request: Request, tries: int) -> None:
        table, key = self._tries, id(request)
        table[key] = ref(request, lambda _: table.pop(key, None)), tries

    def _put_back(self, requests: list[Request]) -> None:
        """HUB. Let these wait for another worker, in order of arrival."""
        waiting = sorted([*requests, *self.inbox], key=lambda request: request.received_at)
        self.inbox.clear()
        self.inbox.extend(waiting)
        self._deadlines.watch()         # they may be older than the one whose deadline is watched

    def received(self, lane: Lane, batch: list[Message]) -> list[Message]:
        """HUB. Do what a worker says; returns the messages that are not for this file."""
        parcels, claim, put = lane.parcels, self._in_flight.open.pop, self._mailbox.put
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
            if parcel is None:
                self._count(lane, LATE)
            elif claim(id(parcel.request), None) is not None or self._failed(parcel):
                put((parcel.request, body, fate))
                counts[fate] += 1
            else:
                self._count(lane, LATE)
                counts[self._fate_elsewhere(parcel)] += 1
        if lane.open:
            if self.inbox or self._explaining.waiting:
                self.schedule()
        else:
            lane.check_emptied()
        return others

    def _failing(self, parcel: Parcel | None) -> None:
        """HUB. A handler has failed, and its worker asks on_error: once. No deadline here may have it asked again."""
        if parcel is not None and parcel.request is not None and self._in_flight.claim(parcel.request):
            parcel.failing = True
            self._outcomes.explaining[id(parcel.request)] = parcel.request

    def _failed(self, parcel: Parcel) -> bool:
        """HUB. Whether it is one of those, and nobody has settled it; the caller does."""
        return parcel.failing and self._outcomes.explaining.pop(id(parcel.request), None) is not None

    def _count(self, lane: Lane, event: int) -> None:
        lane.ledger.counts[event] += 1
        self._ledger.counts[event] += 1

    def _fate_elsewhere(self, parcel: Parcel) -> int:
        """What has become of a request that somebody else has settled, before its worker could be told."""
        if self._outcomes.stopped:
            return ABANDONED
        return TIMED_OUT if parcel.request is not None and self._outcomes.time_left(parcel.request) == 0.0 else PEER_GONE

    def _part(self, lane: Lane, key: int, body: bytes | list[bytes]) -> None:
        """HUB. A part of a stream; one whose request is settled ends the stream."""
        parcel = lane.parcels.get(key)
        if parcel is None or parcel.request is None:
            self._count(lane, LATE)
        elif self._in_flight.owes(parcel.request):
            parcel.parts = True
            lane.ledger.counts[PARTS] += 1
            self._mailbox.put((parcel.request, body, PARTS))
        else:
            lane.give_up(key, self._fate_elsewhere(parcel))

    def _hear(self, lane: Lane, message: Message) -> bool:
        """HUB. One that is no reply; False if it is not for this file."""
        match message:
            case ("ended", key):
                lane.ending.discard(key)
            case ("push", envelope, body):
                lane.ledger.counts[PUSHES] += 1
                self._mailbox.put((Remains(envelope, len(envelope)), body, PUSHES))
            case ("pair", envelope, body):
                lane.ledger.counts[PUSHES] += 1
                self._mailbox.put((Addressed(envelope, self._outcomes.unknown_client), body, PUSHES))
            case ("event", index, count):
                lane.ledger.counts[index] += count
                self._ledger.counts[index] += count
            case ("clear", token, peer):
                self._mailbox.put(partial(self._outcomes.windows.when_clear, peer, partial(lane.send, [("clear", token)])))
            case ("explained", token, fine, answer):
                self._explaining.answered(lane, token, fine, answer)
            case ("failing", key):
                self._failing(lane.parcels.get(key))
            case ("unsaid", key, words):
                self._fail(lane, key, words)
            case _:
                return False
        return True

    def explain(self, request: Request, error: BaseException) -> bytes | list[bytes] | None:
        """As an errand: ask on_error, in a worker, what a client gets. **Blocks**; raises as ``Explaining.ask`` does."""
        having = (parcel for lane in self.lanes for parcel in lane.parcels.values() if parcel.request is request)
        return self._explaining.ask(request, error, next(having, None))
