"""The greenlet that owns the ROUTER.

Rules of this file
  1. Only this file sends or receives on the ROUTER; one greenlet, one OS thread, and one line that
     waits: ``mailbox.get()``, without a timeout.
  2. A turn sends finished replies first (that frees room), then takes new requests, both within a
     budget. Between two turns the hub runs, and the loop polls where a slice of time is used up
     (turns.py): handlers, timers and signals have their turn too, whatever clients send. Where more
     is to do, ``schedule`` makes one callback of the hub for both, the handlers and, behind them,
     the owner, who gives way until then: to wait for mail would take three times as long.
  3. The last socket call before the owner sleeps has processed libzmq's commands: a receive that
     found nothing, or ``readable``. ZMQ_FD is edge-triggered, and every other call can swallow an
     edge.
  4. Nothing here waits for a peer, and no code of the application runs here.
  5. Only the owner counts fates. Whoever settles a request without a reply sends mail without a
     body.

A turn, when it is woken by the descriptor
  ``_fired`` (hub) lets the mailbox add WAKE, at most one at a time, and switch into the owner:
  ``get`` returns -> ``_send`` what is in the mailbox -> ``_take`` what is in the socket, into the
  handlers' inbox -> give way. Still within ``_fired`` the handlers run, and add their replies to
  the mailbox; then the owner has its turn again, and when nothing is left ``get`` waits.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from gevent.hub import get_hub
from greenlet import GreenletExit

from ..hub import forked
from ..messages.body import body_of
from ..messages.in_flight import InFlight
from ..messages.ledger import ABANDONED, ANSWERED, MALFORMED, REFUSED, Ledger
from ..messages.parked import ParkedReplies
from ..messages.request import Request
from ..settings import Settings
from ..sockets.frames import FULL, GONE, SENT
from ..sockets.router import Router
from .handlers import Workplace
from .links import LinkProtocol, Links
from .mailbox import WAKE, Mail, Mailbox, get_ident
from .malformed import MessageRules
from .observer import Observer
from .overload import Overload
from .peers import LOOK_EVERY, Peers
from .read_ahead import ReadAhead
from .results import Results
from .room import Room, admission_of
from .streams import Streams
from .undelivered import Undelivered

BUDGET = 64
"""Replies sent, and requests taken, in one turn at the most. With 100 requests in flight, 64 gives
1.2 times the rate of 256, where all are taken, handled and sent in lockstep while the clients wait,
and 1.1 times that of 40, which makes more system calls."""


class Owner:
    """Moves messages between the ROUTER, the handlers' inbox and the mailbox.

    Args:
        router: not touched by anybody else from now on.
        mailbox, handlers, in_flight, ledger: the neighbours.
        server: what requests refer to.
        in_on_error: requests that have failed and whose on_error has not returned.
        failed: called with an error of a callback, after which nothing may come in any more.
        outbox, streams: for the parking, which others share with it.
        ahead: for requests that are read while there is no place for them.
        on_disconnect: called with the routing id of a client that is gone; None for nobody.
        observer: woken when something happens, if it is asleep.
        links: to the proxies that the server has connected to, if any.
    Attributes:
        taking: whether new requests are taken; False while the server drains.
        undelivered, parking, peers, overload, ahead: see their classes.
    """

    def __init__(
        self,
        router: Router,
        settings: Settings,
        mailbox: Mailbox,
        handlers: Workplace,
        in_flight: InFlight,
        ledger: Ledger,
        server: Results,
        in_on_error: dict[int, Request],
        failed: Callable[[BaseException], object],
        outbox: ParkedReplies,
        streams: Streams,
        ahead: ReadAhead,
        on_disconnect: Callable[[bytes], None] | None,
        observer: Observer | None,
        links: Links | None,
    ) -> None:
        self._receive, self._transmit = router.receive, router.send
        self._skip, self._readable = router.skip, router.readable
        self._mailbox, self._handlers = mailbox, handlers
        self._ledger, self._server = ledger, server
        self._observer, self.ahead = observer, ahead
        self._proxies = LinkProtocol.of(links, settings, ledger, self._tell, mailbox.put)
        self._policy = settings.envelope if links is None else links.policy
        self._max_frames = settings.max_frames
        self._rules = MessageRules(
            self._policy, settings.max_frames, settings.max_message_bytes, handlers.run
        )
        self._busy_reply: Any = settings.busy_reply and body_of(settings.busy_reply, "busy_reply")
        self._admission = admission = admission_of(settings)
        self.overload = Overload(handlers, in_flight, settings, failed)
        self._failed = failed
        self._surplus, self.taking = False, True
        self._drained: Callable[[], None] | None = None
        self.undelivered = Undelivered(
            settings, in_flight, ledger, admission, outbox, streams, self._deliver, mailbox.ring
        )
        self.parking = self.undelivered.parking
        self.peers = Peers(
            router.connections,
            settings,
            handlers,
            ahead.requests,
            in_flight,
            mailbox,
            ledger,
            self.parking,
            server.departures,
            in_on_error,
            mailbox.ring,
            router.access,
            on_disconnect,
        )
        self._room = Room(
            settings.max_in_flight, admission, ledger, self.parking, self.overload, ahead
        )
        self._watcher = get_hub().loop.io(router.fd, 1)
        self._watcher.start(self._fired)
        router.call_when_closed(self._closed)
        forked.arm(self)

    # -- the turn ----------------------------------------------------------------------------------

    def run(self) -> None:
        """OWNER. Serve until a callback raises GreenletExit."""
        mailbox, handlers, ledger = self._mailbox, self._handlers, self._ledger
        peers, parking, observer, proxies = self.peers, self.parking, self._observer, self._proxies
        queue, inbox, ahead = mailbox.queue, handlers.inbox, self.ahead.requests
        while True:
            mail = mailbox.get()  # the only line that waits
            if mail is WAKE and not queue and not peers.disconnects.pending:
                mailbox.rung, woken = False, True
            else:
                woken, mail = self._send(mail), None  # which keeps nobody's request
            if proxies is not None:
                proxies.settled()
            room = self._room.of(BUDGET) if self.taking or ahead else 0
            begin = more = False
            if ahead or room <= 0:
                more = self._take_turns(room)
                begin = bool(inbox)
            elif woken or self._readable():
                # A receive that finds nothing is as dear as one that finds a message. So it is
                # asked for first; where there is a second, mostly there are many.
                more = self._take(1, inbox)
                more = more and bool(self._readable()) and self._take(room - 1, inbox)
                more = peers.have_taken(inbox, more, self._readable)
                if more and room < BUDGET:
                    self.overload.note()
                begin = bool(inbox)
            if parking.peers:  # what has left has made room
                more |= self._unpark() and self.taking and self._room.of(BUDGET) > 0
            mailbox.more |= more
            if observer is not None and observer.asleep:
                observer.wake()
            drained = self._drained
            if drained and not queue and not (ledger.unsettled or parking.peers):
                drained()
            if begin or more or queue:
                handlers.schedule()
                mailbox.give_way()  # until ``wake``, which is sure to come; others run in between

    def _send(self, mail: Mail) -> bool:
        """OWNER. Do what this mail says, and that behind it within the budget; True if there was a
        WAKE."""
        queue, transmit = self._mailbox.queue, self._transmit
        parked, streams = self.parking.peers, self.parking.streams.known
        counts, latencies, admission = self._ledger.counts, self._ledger.latencies, self._admission
        peers, departed, now = self.peers, self.peers.disconnects.departed, monotonic()
        ready, take_out, woken = len(queue), queue.popleft, False
        # Where nothing is to be sent, what is taken is followed by a look.
        stale = now - peers.connections.looked_at > LOOK_EVERY and (ready or mail is not WAKE)
        if peers.disconnects.pending or stale:
            peers.look_again(mail, now)
        budget, refill, received_at = min(ready, BUDGET - 1), True, inf
        while True:
            if mail.__class__ is tuple:
                if streams and id(mail[0]) in streams:
                    mail = self.parking.streams.in_order(mail)
                request, body, fate = mail
                if departed and body is not None and peers.disconnects.gone(request):
                    fate = self.undelivered.take(mail, GONE, now)
                elif parked and request.frames[0] in parked:
                    # Without a body: the end of a stream, behind its items.
                    if body is not None or fate == ANSWERED:
                        fate = self.undelivered.take(mail, FULL, now)
                elif body is not None:
                    outcome = transmit(request.frames, request.envelope_length, body)
                    if outcome != SENT:
                        fate = self.undelivered.take(mail, outcome, now)
                counts[fate] += 1
                if admission is not None and fate <= ABANDONED:
                    admission.release(request.frames)
                if fate == ANSWERED:
                    if received_at != (received_at := request.received_at):  # else as before it
                        interval = int((now - received_at) * 1e6).bit_length()
                    latencies[interval] += 1
            elif mail is WAKE:
                self._mailbox.rung = False
                woken = True
            else:
                mail()
                if not budget and refill:  # what it has put leaves in this turn too
                    refill = False
                    budget = min(len(queue), BUDGET)
            if not budget:
                return woken
            budget -= 1
            mail = take_out()

    def _deliver(self, request: Request, body: Any) -> int:
        """OWNER. Send a parked reply: SENT, FULL or GONE. The end of a stream, without a body, is
        as good as sent."""
        return (
            SENT if body is None else self._transmit(request.frames, request.envelope_length, body)
        )

    def _take(self, room: int, inbox: deque[Request]) -> bool:
        """OWNER. Take up to that many messages, requests into this; False if the socket is empty
        then."""
        receive, measure, plain = self._receive, self._policy.measure, self._policy.plain
        server, admission = self._server, self._admission
        most, pause_at = self._max_frames, inf if admission is None else admission.pause_at
        now = monotonic()
        taken = 0
        if self._surplus and not self._skipped():
            return True
        try:
            while taken < room:
                message = receive(most)
                if message is None:
                    return False
                taken += 1
                frames, origin = message
                try:
                    if len(frames) > plain:
                        self._rules.bound(frames)
                    request = Request(frames, measure(frames), now, origin, server)
                    if admission is None:
                        inbox.append(request)
                    elif admission.admit(frames):
                        inbox.append(request)
                        if admission.bytes >= pause_at:
                            break
                    else:
                        self._refuse(request, now)
                except (ValueError, IndexError):
                    self._drop(frames)
                    if len(frames) > most and not self._skipped():
                        break
        finally:
            self._ledger.received += taken
        return True

    # -- what is not the rule ----------------------------------------------------------------------

    def _take_turns(self, room: int) -> bool:
        """OWNER. There is no room, or not for long: what was read ahead gets it, and others are
        read ahead. True if the owner shall have another turn."""
        ahead, peers, disconnects, count = self.ahead, self.peers, self.peers.disconnects, 0
        if ahead.requests and room > 0:
            now, inbox = monotonic(), self._handlers.inbox
            peers.look()
            disconnects.drop(ahead.place(room, inbox, self._admission, disconnects.has_gone, now))
            if room >= BUDGET or not ahead.requests:
                return True  # which looks at the socket, if there is still room
        readable = bool(self._readable())  # consumes the edge; the reply that makes room wakes
        if not self.taking:
            return False
        if readable:
            peers.look()  # behind it: who has said something is known, and makes room
        while readable and count < BUDGET and ahead.has_room:
            self._take(1, ahead.requests)
            ahead.appended()
            readable, count = bool(self._readable()), count + 1
        if count:
            readable = peers.have_taken(ahead.requests, readable, self._readable)
        return readable and ahead.has_room

    def _fired(self) -> None:
        """HUB. The descriptor has fired: in this call a turn, the handlers, a turn for replies."""
        handlers, mailbox = self._handlers, self._mailbox
        try:
            mailbox.more = True
            if handlers.scheduled:
                mailbox.wake()
            else:
                handlers.scheduled = True  # by what follows, so that the owner need not
                mailbox.wake()
                handlers.relay()
        except BaseException as error:  # nobody would wake the owner again
            self._failed(error)

    def _refuse(self, request: Request, now: float) -> None:
        """OWNER. Answer one that may not come in, at once: by the mailbox, those who are refused
        would fill it."""
        self.overload.note(refused=1)
        frames, busy, fate, outcome = request.frames, self._busy_reply, REFUSED, SENT
        if busy is not None:
            full = frames[0] in self.parking.peers
            outcome = FULL if full else self._transmit(frames, request.envelope_length, busy)
        if outcome != SENT:
            fate = self.undelivered.take((request, busy, fate), outcome, now)
        self.undelivered.count(fate, request)
        admission = self._admission
        if admission is not None and admission.refusing and admission.reached:
            self.overload.fill(admission.count)

    def _skipped(self) -> bool:
        """OWNER. Throw away the rest of a message of too many frames; False if that is not done
        within the budget."""
        self._surplus = not self._skip(self._max_frames)
        return not self._surplus

    def _unpark(self) -> bool:
        """OWNER. Try parked replies, unless that was tried just now; True if the socket has become
        readable by it."""
        if not self.parking.noticed(monotonic()):
            return False
        self.parking.retry()
        return bool(self._readable())

    def _drop(self, frames: list[bytes]) -> None:
        """OWNER. Count a message that fits no rule, and say why; or do what a proxy says."""
        if self._proxies is not None and self._proxies.heard(frames):
            self._ledger.received -= 1  # it is no request
            return
        self._ledger.counts[MALFORMED] += 1
        self._rules.complain(frames)

    # -- the end -----------------------------------------------------------------------------------

    def drain(self, drained: Callable[[], None]) -> None:
        """Tell proxies, take no new requests; call back, from the owner, whenever all is done."""
        if self._proxies is not None and not self._proxies.gone:
            self._mailbox.put(partial(self._proxies.leave, partial(self.drain, drained)))
            return
        self.taking = False
        self._drained = drained
        self._mailbox.ring()

    def _tell(self, envelope: list[bytes], word: bytes) -> None:
        """OWNER. Say this to a proxy; one that cannot take it now hears the next one."""
        self._transmit(envelope, len(envelope), word)

    def end(self) -> None:
        """OWNER. The last callback."""
        raise GreenletExit

    def _closed(self) -> None:
        """ANY THREAD. Somebody else is about to close the socket, whose descriptor will tell
        nothing any more: look at it."""
        if get_ident() == self._mailbox.thread:
            self._watcher.stop()
        self._mailbox.put_threadsafe(WAKE)

    def disarm(self) -> None:
        """In a forked child: no descriptor and no timer wakes it."""
        self.ahead.abandon()
        self.parking.close()
        self._let_go()

    def close(self) -> None:
        """When ``run`` has ended, or broken: let go of the descriptor, and abandon what is
        parked."""
        self.parking.give_up(ABANDONED)
        self._let_go()

    def _let_go(self) -> None:
        self.peers.close()
        # Before the socket is closed: libev aborts the process over a watcher without a descriptor.
        self._watcher.stop()
        self._watcher.close()
        self.overload.close()
        if self._proxies is not None:
            self._proxies.close()
