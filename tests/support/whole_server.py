"""A server under everything that can happen to it, and what must be true after each step.

Rules of this file
  1. ``Machine`` has the rules (what happens) and the laws (what must hold). A ``world`` has the
     ROUTER, the peers and the time; the test files make machines of worlds.
  2. Every body that the handlers make has a number, and is written down as made: for its peer, in
     its channel, for its request. A body that was made too late is not: it must never arrive.
  3. After each step the world comes to rest, and then the laws are checked; ``at_once`` makes one
     step of several.

Channels
  Bodies reach the mailbox in the order in which they were made, but for those that take a way of
  their own: from another OS thread, from futures, and from streams, which wait for each other. So
  order is a law for each channel of each peer.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from random import Random
from unittest.mock import patch

import gevent
import pytest
import zmq
from gevent.event import AsyncResult
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from green_router import AlreadyReplied, Reject, Server, ServerStopped
from green_router.messages.ledger import LATE, LOST_STREAM_ITEMS, MALFORMED, STREAM_ITEMS, TIMED_OUT
from green_router.serving import windows
from green_router.serving.owner import BUDGET
from green_router.serving.parts import Parts, real_router
from green_router.testing import FakeClock, FakeRouter, assert_balanced, eventually, run_until_idle
from green_router.testing.clock import Switches
from green_router.testing.running import whereabouts

FULL = os.environ.get("GREEN_ROUTER_TEST_FULL") == "1"


def profile(examples, full_examples, steps):
    """By default the same examples every time; at full size, more, and others each time."""
    return settings(
        max_examples=full_examples if FULL else examples,
        stateful_step_count=2 * steps if FULL else steps,
        deadline=None,
        derandomize=not FULL,
        suppress_health_check=list(settings.default.suppress_health_check),
    )


# -- worlds ----------------------------------------------------------------------------------------


class FakeWorld:
    """The edge-triggered fake ROUTER, and time that passes when it is told."""

    exact = True
    handler_timeout, park_timeout = 1.0, 5.0

    def __init__(self, seed, capacity):
        self.clock = FakeClock()
        self.clock.__enter__()
        self.router = FakeRouter(capacity, Random(seed))
        self.switches = Switches()
        self.switches.__enter__()

    @property
    def parts(self):
        return self.router.parts

    def connect(self, machine, routing_id=None):
        return FakeClient(self.router.connect(routing_id))

    def settle(self, machine):
        while True:
            self.clock.advance(0)
            if (
                not any([client.drain() for client in machine.clients if not client.stalled])
                and not self.router.catch_up()
            ):
                return

    def pass_time(self, seconds):
        self.clock.advance(seconds)

    def work(self, seconds):
        self.clock.now += seconds

    def check_end(self):
        assert self.router._closed
        assert not self.clock._timers, "timers that nobody needs any more"

    def close(self):
        self.switches.__exit__(None, None, None)
        self.clock.__exit__(None, None, None)


class Client:
    """A peer: ``messages`` are all that it has got."""

    def __init__(self, routing_id):
        self.routing_id = routing_id
        self.alive, self.stalled = True, False
        self.sent = 0
        self.torn = (
            0  # messages that may have been lost half sent, when another peer took its routing id
        )
        self.made, self.got = {}, []

    def send(self, *frames):
        self.sent += 1
        self.transmit(frames)


class FakeClient(Client):
    def __init__(self, peer):
        super().__init__(peer.routing_id)
        self.peer, self.transmit = peer, lambda frames: peer.send(*frames)

    def drain(self, count=None):
        return self.peer.take(count)

    def kill(self):
        self.alive = False
        self.peer.disconnect()

    @property
    def messages(self):
        return [*self.peer.received, *self.peer.outbound]


SMALL_BUFFER = 4096
"""Bytes that the kernel may hold for a connection, each way, so that a peer that does not read is
soon full."""


class RealWorld:
    """Real sockets: everything takes its time, so the laws hold eventually."""

    exact = False
    handler_timeout, park_timeout = 0.1, 0.5
    endpoint = "tcp://127.0.0.1:0"

    def __init__(self, seed, capacity):
        self.context = zmq.Context()
        self.names = 0

    @property
    def parts(self):
        def router(*wanted):
            made = real_router(*wanted)
            made.socket.sndbuf = SMALL_BUFFER
            return made

        return Parts(router=router)

    def connect(self, machine, routing_id=None):
        self.names += 1
        socket = self.context.socket(zmq.DEALER)
        socket.linger, socket.rcvhwm, socket.rcvbuf = 0, 1, SMALL_BUFFER
        socket.routing_id = name = routing_id or b"peer %d" % self.names
        socket.connect(machine.server.endpoints[0])
        return RealClient(name, socket)

    def settle(self, machine):
        def over():
            for client in machine.clients:
                if client.alive and not client.stalled:
                    client.drain()
            return machine.complete()

        eventually(over)

    def pass_time(self, seconds):
        gevent.sleep(seconds)

    def work(self, seconds):
        time.sleep(seconds)

    def check_end(self):
        """The server has closed its own context, or ``stop`` would have said so."""

    def close(self):
        self.context.term()


class RealClient(Client):
    def __init__(self, routing_id, socket):
        super().__init__(routing_id)
        self.socket, self.messages = socket, []
        self.transmit = lambda frames: socket.send_multipart(frames)

    def drain(self, count=None):
        before = len(self.messages)
        while (
            self.alive
            and len(self.messages) - before != count
            and self.socket.getsockopt(zmq.EVENTS) & zmq.POLLIN
        ):
            self.messages.append(self.socket.recv_multipart(zmq.NOBLOCK))
        return len(self.messages) - before

    def kill(self):
        self.alive = False
        self.socket.close()


# -- what the handlers do --------------------------------------------------------------------------

ANSWER, PART, PUSH, REFUSAL, FAILURE = "answer", "part", "push", "refusal", "failure"

HOWS = st.sampled_from(
    ["bytes", "frames", "error", "reject", "bad", "nothing", "other", "replied", "twice"]
)
SIZES = st.sampled_from([0, 0, 10, 3000])


@dataclass
class Plan:
    """What the handler does with a request."""

    kind: str
    how: str = "bytes"
    size: int = 0
    parts: int = 0


PLANS = st.one_of(
    st.builds(
        Plan, kind=st.sampled_from(["now", "now", "busy", "later", "future"]), how=HOWS, size=SIZES
    ),
    st.builds(Plan, kind=st.sampled_from(["kept", "stubborn"]), size=SIZES),
    st.builds(
        Plan,
        kind=st.sampled_from(["stream", "gated"]),
        how=st.sampled_from(["bytes", "error"]),
        size=SIZES,
        parts=st.sampled_from([0, 1, 3, 5, 65, 130]),
    ),
)


@dataclass
class Ask:
    """A request, from when a peer sends it."""

    number: int
    client: Client
    plan: Plan
    starts: int = 0
    settled: bool = False  # its one reply has arrived
    waits: bool = False
    done: bool = False
    gate: AsyncResult = field(default_factory=AsyncResult)
    request: object = None


class Machine(RuleBasedStateMachine):
    """Everything that can happen. ``World`` is set by those who inherit."""

    World: type

    @initialize(
        seed=st.integers(0, 2**16),
        capacity=st.integers(1, 5),
        envelope=st.sampled_from(["delimiter", "bare"]),
        overload=st.sampled_from(["pause", "pause", "refuse"]),
        max_in_flight=st.sampled_from([1, 2, 3, 5, 10_000]),
        per_peer=st.sampled_from([None, None, 1, 3]),
        bytes_per_peer=st.sampled_from([None, None, 1500]),
        busy=st.sampled_from([None, b"busy"]),
        on_error=st.sampled_from([None, "body", "silence", "raises"]),
        handler_timeout=st.booleans(),
        park_timeout=st.booleans(),
        narrow=st.sampled_from([False, False, True]),
    )
    def start(
        self,
        seed,
        capacity,
        envelope,
        overload,
        max_in_flight,
        per_peer,
        bytes_per_peer,
        busy,
        on_error,
        handler_timeout,
        park_timeout,
        narrow,
    ):
        self.world = world = self.World(seed, capacity)
        self.asked, self.clients, self.kept, self.made, self.late = [], [], [], {}, set()
        self.replies = {}  # number of a body -> the request that it is for
        self.limited = overload == "refuse" or per_peer is not None or bytes_per_peer is not None
        self.streams_done = self.mid_deaths = self.resolved = 0
        self.on_error, self.narrow = on_error, narrow
        self.delimiter = [b""] if envelope == "delimiter" else []
        self.stopping = None
        self.held = 0

        self.server = Server(
            self.handle,
            world.parts,
            envelope=envelope,
            overload=overload,
            max_in_flight=max_in_flight,
            max_in_flight_per_peer=per_peer,
            max_in_flight_bytes_per_peer=bytes_per_peer,
            busy_reply=busy,
            grace=3 * world.handler_timeout,
            linger=0.0,
            max_frames=10,
            send_high_water_mark=capacity,
            on_error=None if on_error is None else self.explain,
            handler_timeout=world.handler_timeout if handler_timeout else None,
            park_timeout=world.park_timeout if park_timeout else None,
            **({"max_parked_bytes_per_peer": 700, "max_parked_bytes": 2000} if narrow else {}),
        )
        self.impatient = patch.object(windows, "LOOP_SECONDS", 0)  # see ``never_waits``
        self.impatient.start()
        self.server.bind(getattr(world, "endpoint", "fake://"))
        self.server.start()
        self.connect()
        self.world.settle(self)
        self.turns_before, self.causes = self.turns(), self.sum_of_causes()

    # -- the handler -------------------------------------------------------------------------------

    def body(self, ask, channel, kind, request=None):
        """A new body for the client that asked; late, if the request has been settled before."""
        if request is not None and request.replied:
            number = len(self.made) + len(self.late)
            self.late.add(number)
            return b"%d:" % number
        body = self.push_body(ask.client, channel, ask.plan.size, kind)
        self.replies[numbered(body)] = ask
        return body

    def push_body(self, client, channel, size, kind=PUSH):
        """A new body that is no reply, for any client."""
        number = len(self.made) + len(self.late)
        self.made[number] = kind
        client.made[number] = channel
        return b"%d:" % number + b"." * size

    def unmake(self, client, body):
        """It turned out to be late."""
        number = numbered(body)
        del self.made[number], client.made[number]
        self.late.add(number)

    def handle(self, request):
        ask = self.asked[int(request.data)]
        ask.starts += 1
        assert ask.starts == 1
        assert request.routing_id == ask.client.routing_id
        plan = ask.plan
        if plan.kind in ("stream", "gated"):
            return self.stream(request, ask)
        if plan.kind == "kept":
            ask.request, ask.done = request, True
            self.kept.append(ask)
            return None
        if plan.kind == "future":
            ask.request, ask.done = request, True
            future = AsyncResult()
            self.kept.append(ask)
            ask.gate = future
            return future
        try:
            if plan.kind == "busy":
                self.world.work(0.002)
            elif plan.kind in ("later", "stubborn"):
                self.wait(ask)
            return self.produce(request, ask)
        finally:
            ask.done = True

    def wait(self, ask):
        ask.waits = True
        try:
            ask.gate.get()
        except gevent.GreenletExit:
            raise
        except BaseException:
            if ask.plan.kind != "stubborn":
                raise
        finally:
            ask.waits = False

    def produce(self, request, ask):
        how = ask.plan.how
        if how == "bytes":
            return self.body(ask, "direct", ANSWER, request)
        if how == "frames":
            return [self.body(ask, "direct", ANSWER, request), b"", b"more"]
        if how == "reject":
            raise Reject(self.body(ask, "direct", REFUSAL, request))
        if how == "bad":
            return "text"
        if how == "nothing":
            return None
        if how == "other":
            other = self.clients[0]
            if other.routing_id == request.routing_id:
                return other.routing_id, self.body(ask, "direct", ANSWER, request)
            return other.routing_id, self.push_body(other, "direct", ask.plan.size)
        if how in ("replied", "twice"):
            if not request.replied:
                request.reply(self.body(ask, "direct", ANSWER, request))
            return None if how == "replied" else self.body(ask, "direct", ANSWER, request)
        raise ValueError("as planned")

    def stream(self, request, ask):
        try:
            for _ in range(ask.plan.parts):
                if ask.plan.kind == "gated":
                    self.wait(ask)
                    ask.gate = AsyncResult()
                yield self.body(ask, f"stream {ask.number}", PART, request)
            if ask.plan.how == "error":
                raise ValueError("as planned, in a stream")
            self.streams_done += bool(ask.plan.parts) and not request.replied
        finally:
            ask.done = True

    def explain(self, request, error):
        if self.on_error == "raises":
            raise ValueError("in on_error")
        return (
            self.body(self.asked[int(request.data)], "direct", FAILURE)
            if self.on_error == "body"
            else None
        )

    # -- what happens: peers -----------------------------------------------------------------------

    def living(self, index):
        alive = [client for client in self.clients if client.alive]
        return alive[index % len(alive)] if alive else None

    @precondition(lambda self: sum(client.alive for client in self.clients) < 4)
    @rule(stalled=st.booleans())
    def connect(self, stalled=False):
        self.clients.append(self.world.connect(self))
        self.clients[-1].stalled = stalled

    @rule(who=st.integers(0, 3), plans=st.lists(PLANS, min_size=1, max_size=4))
    def ask(self, who, plans):
        client = self.living(who)
        for plan in plans if client else ():
            self.ask_one(client, plan)

    def ask_one(self, client, plan):
        ask = Ask(len(self.asked), client, plan)
        self.asked.append(ask)
        client.send(*self.delimiter, b"%d" % ask.number, b"." * plan.size)

    @rule(who=st.integers(0, 3), plan=PLANS)
    def flood(self, who, plan):
        client = self.living(who)
        for _ in range(70 if client else 0):
            self.ask_one(client, Plan(plan.kind, plan.how, 0, min(plan.parts, 3)))

    @rule(who=st.integers(0, 3), frames=st.sampled_from([[b"no delimiter"], [b""], [b"x"] * 12]))
    def malformed(self, who, frames):
        client = self.living(who)
        if client and (self.delimiter or len(frames) > 10):
            client.send(*frames)

    @rule(who=st.integers(0, 3), stalled=st.booleans())
    def stall(self, who, stalled):
        client = self.living(who)
        if client:
            client.stalled = stalled

    @rule(who=st.integers(0, 3), count=st.integers(1, 5))
    def take_some(self, who, count):
        client = self.living(who)
        if client:
            client.drain(count)

    @rule(who=st.integers(0, 3))
    def kill(self, who):
        client = self.living(who)
        if client:
            self.mid_deaths += self.held > 0
            client.kill()

    # -- what happens: handlers --------------------------------------------------------------------

    @rule(which=st.integers(0, 9), how=HOWS, all_=st.booleans())
    def release(self, which, how, all_):
        """Let handlers that wait go on."""
        waiting = [
            ask
            for ask in self.asked
            if ask.starts
            and ask.plan.kind in ("later", "stubborn", "gated")
            and not ask.gate.ready()
        ]
        for ask in waiting if all_ else waiting[which % len(waiting) :][:1] if waiting else ():
            if ask.plan.kind != "gated":
                ask.plan.how = how
            ask.gate.set(True)

    @precondition(lambda self: self.kept)
    @rule(
        which=st.integers(0, 9),
        way=st.sampled_from(["here", "thread", "drop", "fails"]),
        more=st.booleans(),
    )
    def later(self, which, way, more):
        """A request whose handler has returned: its reply, or its future's result, or nobody
        remembers it."""
        ask = self.kept.pop(which % len(self.kept))
        request, ask.request = ask.request, None
        if ask.plan.kind == "future":
            self.resolved += 1
            if way == "fails":
                ask.gate.set_exception(ValueError("of a future"))
            elif way == "drop":
                ask.gate.set(None)
            else:
                ask.gate.set(self.body(ask, "future", ANSWER, request))
            return
        if way in ("here", "thread"):
            bodies = [self.body(ask, way, PART) for _ in range(2 * more)] + [
                self.body(ask, way, ANSWER)
            ]
            if way == "here":
                with self.never_waits():
                    self.reply_all(ask.client, request, bodies)
            else:
                thread = threading.Thread(target=self.reply_all, args=(ask.client, request, bodies))
                thread.start()
                thread.join()

    def reply_all(self, client, request, bodies):
        for body in bodies:
            try:
                request.reply(body, final=body is bodies[-1])
            except (AlreadyReplied, gevent.GreenletExit):
                self.unmake(client, body)
            except ServerStopped:
                assert self.ended
                self.unmake(client, body)

    @rule(
        who=st.integers(0, 3), threaded=st.booleans(), count=st.sampled_from([1, 2, 70]), size=SIZES
    )
    def push(self, who, threaded, count, size):
        client = self.living(who)
        if client and self.server._state in ("serving", "stopping"):
            bodies = [
                self.push_body(client, "thread" if threaded else "direct", size)
                for _ in range(count)
            ]

            def send():
                for body in bodies:
                    self.server.send(client.routing_id, body)

            if threaded:
                thread = threading.Thread(target=send)
                thread.start()
                thread.join()
            else:
                with self.never_waits():
                    send()

    def never_waits(self):
        """Here, and in threads that are waited for here, who is ahead does not wait for the owner:
        it has its turn later."""
        return patch.multiple(self.server._results.windows, owner=gevent.getcurrent())

    # -- what happens: time, and the end -----------------------------------------------------------

    @rule(steps=st.integers(1, 4))
    def at_once(self, steps):
        """The next steps happen before the world comes to rest."""
        self.held = steps + 1

    @rule(share=st.sampled_from([0.003, 0.1, 0.6, 1.2]))
    def pass_time(self, share):
        self.world.pass_time(share * self.world.handler_timeout)

    @precondition(lambda self: len(self.asked) > 5 and self.stopping is None)
    @rule(seconds=st.sampled_from([0.0, 0.5, None]), sure=st.integers(0, 3))
    def stop(self, seconds, sure):
        if sure == 0:
            self.stopping = gevent.spawn(
                self.server.stop, None if seconds is None else seconds * self.world.handler_timeout
            )

    # -- what must hold ----------------------------------------------------------------------------

    @property
    def ended(self):
        return self.stopping is not None and self.stopping.ready()

    def parked(self, client):
        queue = self.server._owner.parking.peers.get(client.routing_id)
        bodies = (
            [item[1] for item, _, _ in queue.items if item.__class__ is tuple]
            if queue is not None
            else []
        )
        return [numbered(body) for body in bodies if body is not None]  # None: the end of a stream

    def lost(self):
        stats = self.server.stats()
        return (
            stats["fates"]["peer_stalled"]
            + stats["events"]["lost_stream_items"]
            + stats["events"]["lost_pushes"]
        )

    def paused(self):
        """Whether the server has a reason to take nothing."""
        server, settings_ = self.server, self.server.settings
        return self.stopping is not None or (
            settings_.overload == "pause"
            and server._ledger.unsettled - server._owner.parking.unsettled
            >= settings_.max_in_flight
        )

    def collect(self):
        """Look at what has arrived since the last time: the right peer, once, in order, one reply a
        request."""
        for client in self.clients:
            messages = client.messages
            for message in messages[len(client.got) :]:
                *envelope, first = message[: len(self.delimiter) + 1]
                assert envelope == self.delimiter
                number = numbered(first)
                assert number is None or number in client.made, (
                    f"{number} is late, or for another peer"
                )
                assert number is None or number not in client.got, f"{number} has come twice"
                client.got.append(number)
                ask = self.replies.get(number)
                if ask is not None:
                    assert not ask.settled, (
                        f"{number} comes after the reply to request {ask.number}"
                    )
                    ask.settled = self.made[number] != PART
            for channel in set(client.made.values()):
                numbers = [
                    number
                    for number in client.got
                    if number is not None and client.made[number] == channel
                ]
                assert numbers == sorted(numbers), f"the order of {channel}"

    def missing(self, client):
        """Bodies that were made for it, have not arrived and do not wait."""
        same = [other.got for other in self.clients if other.routing_id == client.routing_id]
        return set(client.made).difference(self.parked(client), *same)

    def complete(self):
        """Whether everything has happened that must."""
        self.collect()
        if self.ended:
            return True
        if self.server._owner.parking.peers and any(
            self.parked(client) for client in self.clients if client.alive and not client.stalled
        ):
            return False
        losses = self.lost()
        if any(
            len(self.missing(client)) > losses
            for client in self.clients
            if client.alive and not client.stalled
        ):
            return False
        if (
            not self.limited
            and not self.paused()
            and not all(ask.starts for ask in self.asked if ask.client.alive)
        ):
            return False
        return whereabouts(self.server)["mailbox"] == 0 == len(self.server._handlers.inbox)

    @invariant()
    def laws(self):
        if not hasattr(self, "server"):
            return
        if self.held:
            self.held -= 1
            if self.held:
                assert_balanced(self.server)
                return
        self.world.settle(self)
        assert_balanced(self.server)
        self.collect()
        if self.ended:
            self.check_end()
        elif self.world.exact:
            self.check_exactly()

    def check_exactly(self):
        server, router = self.server, self.world.router
        # nothing is stuck on its way out: what is parked cannot leave, or will at the second look
        stuck = self.could_leave()
        if stuck:
            self.world.clock.advance(0.0021)
            self.world.settle(self)
            self.collect()
            assert not self.could_leave()
        # nor on its way in
        where = whereabouts(server)
        assert (
            where["inbox"] == where["mailbox"] == len(server._mailbox) == where["explaining"] == 0
        )
        assert self.paused() or router.unread == 0
        losses = self.lost()
        for client in self.clients:
            if client.alive:
                assert len(self.missing(client)) <= losses + client.torn + self.in_hand(client)
        # nor in a handler that has no cause to wait
        for ask in self.asked:
            assert (
                ask.done
                or ask.waits
                or not ask.starts
                or (
                    ask.plan.kind in ("stream", "gated")
                    and ask.client.routing_id in server._owner.parking.peers
                )
            )
        # each fate is what was delivered
        arrived = [
            self.made[number]
            for client in self.clients
            for number in client.got
            if number is not None
        ]
        fates = server.stats()["fates"]
        # the end of a stream waits behind its parts, and is lost with them
        ends = sum(
            item.__class__ is tuple and item[1] is None
            for queue in server._owner.parking.peers.values()
            for item, _, _ in queue.items
        )
        answered = arrived.count(ANSWER) + self.streams_done - ends
        assert (
            max(arrived.count(ANSWER), answered - fates["peer_gone"] - fates["peer_stalled"])
            <= fates["answered"]
        )
        assert fates["answered"] <= answered + self.mid_deaths
        assert arrived.count(REFUSAL) <= fates["rejected"]
        limit = server.settings.handler_timeout
        oldest = server._in_flight.oldest()
        assert (
            limit is None
            or oldest is None
            or self.world.clock.now - oldest.received_at < limit + 0.01
        )
        admission = server._owner._admission
        if admission is not None:
            assert admission.count == server._ledger.unsettled - server._owner.parking.unsettled
        # and nobody wakes the owner for nothing
        turns, causes = self.turns(), self.sum_of_causes()
        assert turns - self.turns_before <= causes - self.causes
        run_until_idle()
        assert self.turns() == turns
        self.turns_before, self.causes = turns, causes

    def could_leave(self):
        prospects = {peer.routing_id: peer.prospect for peer in self.world.router.peers}
        return [
            client
            for routing_id in self.server._owner.parking.peers
            for client in self.clients
            if client.routing_id == routing_id and prospects[routing_id] != "full"
        ]

    def turns(self):
        return self.world.exact and self.world.switches.by_target.get(self.server._own, 0)

    def sum_of_causes(self):
        """Edges, timers, mail, and rounds that ended with more to do: each may wake the owner
        once; an edge once more, behind the handlers that it has begun."""
        if not self.world.exact:
            return 0
        ledger, settings_ = self.server._ledger, self.server.settings
        # These two are counted without.
        mail = sum(ledger.counts) - ledger.counts[MALFORMED] - ledger.counts[LATE]
        tasks = (
            self.resolved
            + ledger.counts[TIMED_OUT]
            + self.full_windows()
            + (self.stopping is not None)
        )
        rounds = (
            ledger.received if settings_.max_in_flight < BUDGET else 2 * ledger.received // BUDGET
        )
        return 2 * self.world.router.edges + self.world.clock.fired + mail + tasks + rounds

    def in_hand(self, client):
        """Streams that have made an item, perhaps, when others had filled the window of their
        peer."""
        window = self.server._results.windows._of_peers.get(client.routing_id)
        return len(window._waiters) if window is not None else 0

    def full_windows(self):
        """How often a stream may have asked whether its peer has taken everything: behind so many
        items."""
        items = (
            self.server._ledger.counts[STREAM_ITEMS] + self.server._ledger.counts[LOST_STREAM_ITEMS]
        )
        return items if self.narrow else items // (windows.STREAM_BYTES // 4000)

    def check_end(self):
        """After the end nothing is left, and nothing can be begun."""
        self.stopping.get()
        server = self.server
        stats = server.stats()
        assert (
            stats["in_flight"] == stats["waiting"] == stats["parked"] == stats["parked_bytes"] == 0
        )
        assert server._own.dead and not len(server._mailbox)
        with pytest.raises(ServerStopped):
            server.send(b"anybody", b"x")
        for ask in self.kept:
            if ask.request is not None and not ask.request.replied:
                raise AssertionError("a request is open after the end")
            if ask.plan.kind == "kept":
                with pytest.raises((ServerStopped, AlreadyReplied)):
                    ask.request.reply(b"too late")
        self.world.check_end()

    def teardown(self):
        if not hasattr(self, "server"):
            return
        try:
            if self.stopping is None:
                self.stopping = gevent.spawn(self.server.stop, 0)
            if self.world.exact:
                run_until_idle()
                self.world.pass_time(10 * self.world.handler_timeout)
            self.stopping.join()
            self.collect()
            assert_balanced(self.server)
            if self.world.exact:
                # Whoever else has waited for the end, with a limit, lets go of its timer.
                run_until_idle()
            self.check_end()
        finally:
            self.impatient.stop()
            for client in self.clients:
                if client.alive:
                    client.kill()
            self.kept.clear()
            self.world.close()


def numbered(body):
    """The number of a body; None for one that no handler made."""
    first = body[0] if isinstance(body, list) else body
    return int(first.split(b":")[0]) if b":" in first else None
