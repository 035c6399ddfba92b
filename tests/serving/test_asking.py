"""Requests that until_ready asks about: when, how often, in which wake-ups; and what ready() does.

Questions, timers and wake-ups are counted, on a clock that the test moves; nothing here is timed.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextvars import ContextVar
from itertools import pairwise

import gevent
import pytest
from gevent.event import AsyncResult
from gevent.hub import get_hub

from green_router import Server, until_ready
from green_router.testing import (
    PATIENCE,
    FakeClock,
    FakeRouter,
    assert_balanced,
    eventually,
    running_server,
)

LONG = 2.0
"""Seconds after which pauses are the longest that there are without ready()."""


class World:
    """A server on a clock and a ROUTER that are the test's, and a handler that is ready when the
    test says so.

    Attributes:
        asked: how often the handler was asked, by data.
        done: data that is ready.
        price: processor time that a question takes, in seconds.
        asleep: called in a question about data that is in it, instead of an answer.
        handler: what ``until_ready`` has made.
    """

    def __init__(self, **settings):
        self.clock, self.router, self._settings = FakeClock(), FakeRouter(), settings
        self.asked, self.done, self.asleep = Counter(), set(), {}
        self.requests = {}
        self.price = self.spent = 0.0

        @until_ready
        def handle_request(request):
            client_id, data = request
            self.asked[data] += 1
            self.spent += self.price
            self.clock.now += self.price
            self.requests[data] = request
            if data in self.asleep:
                return self.asleep.pop(data)()
            return (client_id, data.upper()) if data in self.done else None

        self.handler = handle_request

    def __enter__(self):
        self.clock.now = 1000.0003  # pauses end at whole milliseconds: the same in every run
        self.clock.__enter__()
        self.server = Server(self.handler, self.router.parts, **self._settings)
        self.server.start()
        self.peer = self.router.connect(b"peer")
        return self

    def __exit__(self, *error):
        stopping = gevent.spawn(self.server.stop, 0)
        self.clock.advance(1)
        assert not self.clock._timers
        self.clock.__exit__(*error)
        stopping.get(timeout=10 * PATIENCE)
        assert_balanced(self.server)

    def ask(self, *names):
        for name in names:
            self.peer.send(b"", name)
        self.clock.advance(0)

    def wait(self, seconds):
        """Let time pass; returns how often somebody was asked, and how often a timer fired."""
        asked, fired = sum(self.asked.values()), self.clock.fired
        self.clock.advance(seconds)
        return sum(self.asked.values()) - asked, self.clock.fired - fired

    def finish(self, *names):
        """These become ready, and nobody tells."""
        self.done.update(names)

    def replies(self):
        """What has come since the last call."""
        self.clock.advance(0)
        self.peer.take()
        came, self.peer.received[:] = [frames[-1] for frames in self.peer.received], []
        return came

    def learn(self, seconds, *names):
        """Let requests become ready at that age."""
        self.ask(*names)
        self.clock.advance(seconds)
        self.done.update(names)
        self.clock.advance(0.05)
        assert len(self.replies()) == len(names)
        self.done.difference_update(names)


@pytest.fixture
def world(request):
    with World(**getattr(request, "param", {})) as made:
        yield made


def in_thread(*calls):
    """Make these calls in an OS thread, and wait for its end."""
    thread = threading.Thread(target=lambda: [call() for call in calls])
    thread.start()
    thread.join(10 * PATIENCE)
    assert not thread.is_alive()


NAMES = [b"r%d" % number for number in range(300)]


# -- when told -------------------------------------------------------------------------------------


def test_what_a_thread_tells_is_asked_at_once(world):
    world.ask(b"a", b"b")
    world.wait(LONG)
    world.finish(b"a")
    in_thread(world.handler.ready)
    fired = world.clock.fired
    assert world.replies() == [b"A"]
    assert world.clock.fired == fired


def test_what_a_greenlet_tells_is_asked_at_once(world):
    world.ask(b"a")
    world.finish(b"a")
    world.handler.ready()
    assert world.replies() == [b"A"]


def test_many_calls_are_one_wake_up(world):
    world.ask(*NAMES)
    world.handler.ready()
    world.wait(LONG)
    world.finish(*NAMES)
    before = Counter(world.asked)
    in_thread(*[world.handler.ready] * 1000)
    assert sorted(world.replies()) == sorted(name.upper() for name in NAMES)
    assert world.asked - before == Counter(NAMES)


def test_one_request_can_be_named(world):
    world.ask(*NAMES)
    world.wait(0.01)
    world.finish(*NAMES)
    before = Counter(world.asked)
    in_thread(
        lambda: world.handler.ready(world.requests[b"r7"]),
        lambda: world.handler.ready(world.requests[b"r3"]),
    )
    assert world.replies() == [b"R7", b"R3"]
    assert world.asked - before == Counter([b"r7", b"r3"])


def test_one_can_be_named_while_others_are_asked(world):
    world.ask(b"a", b"b")
    world.asleep[b"a"] = lambda: world.finish(b"b") or world.handler.ready(world.requests[b"b"])
    world.handler.ready()
    assert world.replies() == [b"B"]


def test_it_is_a_callback_of_futures(world):
    world.ask(b"a")
    future = AsyncResult()
    future.rawlink(world.handler.ready)
    world.finish(b"a")
    future.set()
    assert world.replies() == [b"A"]


def test_what_is_told_while_the_handler_that_was_asked_waits_is_not_lost(world):
    """It has looked, it was not ready, and before it says so it becomes ready, and that is told."""
    go_on = AsyncResult()
    world.asleep[b"a"] = go_on.get
    world.ask(b"a")
    world.finish(b"a")
    in_thread(world.handler.ready)
    world.clock.advance(0)
    go_on.set(None)
    fired = world.clock.fired
    assert world.replies() == [b"A"]
    assert world.clock.fired == fired


def test_who_is_told_asks_rarely(world):
    world.handler.ready()
    world.ask(*NAMES)
    asked, fired = world.wait(10)
    assert asked <= 10 * len(NAMES)
    assert fired <= 10


def test_who_is_told_for_the_first_time_asks_rarely_from_then_on(world):
    world.ask(*NAMES)
    world.wait(0.01)
    world.handler.ready()
    world.wait(0)
    asked, fired = world.wait(3)
    assert asked <= 3 * len(NAMES)
    assert fired <= 3


def test_those_that_were_not_named_wait_as_long_from_then_on(world):
    world.ask(b"a", b"b")
    world.wait(0.3)
    world.finish(b"a")
    world.handler.ready(world.requests[b"a"])
    assert world.replies() == [b"A"]
    before = world.asked[b"b"]
    world.wait(1)
    assert world.asked[b"b"] - before <= 2


def test_a_net_catches_what_nobody_tells(world):
    world.handler.ready()
    world.ask(b"a")
    world.wait(100)
    world.finish(b"a")
    world.wait(100 / 8 + 1)
    assert world.replies() == [b"A"]


# -- by time ---------------------------------------------------------------------------------------


def test_a_young_request_is_asked_about_every_millisecond(world):
    world.ask(b"a")
    asked, fired = world.wait(0.02)
    assert asked in (19, 20, 21)
    assert fired == asked


def test_a_reply_is_late_by_a_part_of_what_it_took(world):
    for seconds in (0.05, 0.2, 1.0, 3.0):
        world.ask(b"a")
        world.wait(seconds)
        world.finish(b"a")
        world.wait(max(0.002, seconds / 32) + 0.001)
        assert world.replies() == [b"A"]
        world.done.clear()


def test_those_that_came_one_after_the_other_share_their_wake_ups(world):
    for name in NAMES[:20]:
        world.ask(name)
        world.wait(0.0137)
    world.wait(LONG)
    asked, fired = world.wait(1)
    assert fired <= 1 / 0.004
    assert asked <= 20 * fired


def test_asking_takes_a_part_of_the_time_however_many_wait(world):
    world.price = 100e-6
    world.ask(*NAMES)
    world.wait(0.5)
    before = world.spent
    world.wait(1)
    assert 0.1 < world.spent - before <= 0.2


def test_replies_leave_behind_each_piece_of_a_round(world):
    """A round of these takes 30 ms, and twice as long with its rests; the first reply of it is
    late by two pieces at the most."""
    world.learn(0.3, *NAMES[:70])
    world.ask(*NAMES)
    world.wait(0.28)
    world.price = 100e-6
    world.wait(0.01)
    before = world.asked.copy()
    world.finish(*NAMES)
    world.wait(0.0015)
    first = len(world.replies())
    assert 3 <= first == (world.asked - before).total() <= 15
    world.wait(0.1)
    assert first + len(world.replies()) == 300


def test_the_first_ones_at_an_age_of_which_nothing_was_known_are_found_by_a_piece(world):
    """A round of these takes 240 ms with its rests."""
    world.price = 100e-6
    world.ask(*NAMES)
    world.wait(1.0)
    world.finish(*NAMES[::4])
    world.wait(0.02)
    first = len(world.replies())
    world.wait(0.1)
    assert 0 < first < first + len(world.replies()) == 75


def test_those_of_which_other_things_are_known_by_now_are_not_asked_for_that(world):
    world.ask(*NAMES[:70], b"a", b"b")
    world.wait(0.3)
    before = world.asked.copy()
    world.finish(*NAMES[:70])
    world.wait(0.004)
    assert len(world.replies()) == 70
    assert (world.asked - before)[b"b"] <= 4


def test_questions_that_take_long_let_the_loop_turn_between_them(serve):
    """As handlers do: after a slice of a millisecond."""
    asked, done = [], []

    def handle_request(request):
        asked.append(request)
        until = time.monotonic() + (0.01 if len(asked) > 10 else 0)
        while time.monotonic() < until:
            pass
        return request.data if done else None

    server = serve(until_ready(handle_request))
    clients = [server.client() for _ in range(10)]
    for client in clients:
        client.send(b"")
    eventually(lambda: len(asked) > 10)
    turned = []
    watcher = get_hub().loop.check()
    watcher.start(lambda: turned.append(len(asked)))
    eventually(lambda: len(asked) > 40)
    watcher.stop()
    watcher.close()
    assert max(after - before for before, after in pairwise(turned)) <= 2
    done.append(True)
    assert [client.recv() for client in clients] == [b""] * 10


def test_where_nothing_waits_there_is_no_timer(world):
    world.ask(b"a", b"b")
    world.wait(0.1)
    world.finish(b"a", b"b")
    world.wait(0.1)
    assert len(world.replies()) == 2
    assert world.wait(10) == (0, 0)


def test_ages_at_which_replies_came_are_asked_about_finely(world):
    world.learn(0.3, b"a", b"b")
    world.ask(b"a")
    world.wait(0.299)
    world.finish(b"a")
    world.wait(0.003)
    assert world.replies() == [b"A"]


def test_what_is_learned_holds_for_those_that_wait_already(world):
    world.learn(0.02, *NAMES[:70])
    world.ask(b"a", b"b")
    world.wait(1.5)
    world.finish(b"a")
    world.wait(0.01)
    world.finish(b"b")
    world.wait(0.003)
    assert world.replies() == [b"A", b"B"]


def test_ages_at_which_none_came_need_few_questions(world):
    world.ask(b"new")
    new, _ = world.wait(0.016)
    world.finish(b"new")
    world.wait(0.1)
    assert world.replies() == [b"NEW"]
    world.learn(0.025, *NAMES[:70])
    world.ask(b"b")
    learned, _ = world.wait(0.016)
    assert learned <= 5 < 15 <= new


def test_times_that_vary_by_a_thousand_are_learned_apart(world):
    world.learn(0.001, *NAMES[:40])
    world.learn(1.0, *NAMES[:40])
    world.ask(b"quick", b"slow")
    world.wait(0.001)
    world.finish(b"quick")
    world.wait(0.003)
    between, _ = world.wait(0.7)
    assert between <= 200
    world.wait(0.3)
    world.finish(b"slow")
    world.wait(0.003)
    assert world.replies() == [b"QUICK", b"SLOW"]


# -- each for itself -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "world",
    [{"handler_timeout": 1.0, "on_error": lambda _, error: error.code.encode()}],
    indirect=True,
    ids=["timeout"],
)
def test_one_that_times_out_leaves_the_others_alone(world):
    world.ask(b"never")
    world.wait(0.5)
    world.ask(b"soon")
    world.wait(0.4)
    world.finish(b"soon")
    world.wait(0.2)
    assert sorted(world.replies()) == [b"SOON", b"timed_out"]
    world.wait(1)  # the deadline of the one that was answered passes
    assert world.wait(10) == (0, 0)


def test_a_handler_that_blocks_when_asked_delays_no_other(world):
    world.ask(b"blocks", b"other")
    world.wait(0.01)
    go_on = AsyncResult()
    world.asleep[b"blocks"] = go_on.get
    world.wait(0.01)
    world.finish(b"other")
    world.wait(0.01)
    assert world.replies() == [b"OTHER"]
    asked = world.asked[b"blocks"]
    world.wait(0.01)
    assert world.asked[b"blocks"] == asked
    go_on.set(b"at last")
    assert world.replies() == [b"at last"]


def test_one_that_is_settled_before_its_question_is_not_asked(world):
    """The questions of a round are asked one after the other: what one does can settle another that
    is to be asked."""
    world.ask(b"a", b"b")
    before = world.asked[b"b"]
    world.asleep[b"a"] = lambda: world.requests[b"b"].reply(b"by another")
    world.wait(0.002)
    assert world.asked[b"b"] == before
    assert world.replies() == [b"by another"]


def test_a_handler_that_has_replied_itself_is_not_asked_again(world):
    world.asleep[b"a"] = lambda: world.requests[b"a"].reply(b"by itself")
    world.ask(b"a")
    assert world.replies() == [b"by itself"]
    assert world.wait(10) == (0, 0)


def test_a_stream_may_be_what_becomes_ready(world):
    world.ask(b"a")
    world.asleep[b"a"] = lambda: (b"%d" % number for number in range(3))
    world.wait(0.01)
    assert world.replies() == [b"0", b"1", b"2"]


def test_a_future_may_be_what_becomes_ready(world):
    future = AsyncResult()
    world.ask(b"a")
    world.asleep[b"a"] = lambda: future
    world.wait(0.01)
    asked = world.asked[b"a"]
    world.wait(0.01)
    future.set(b"done")
    assert world.replies() == [b"done"]
    assert world.asked[b"a"] == asked


def fail():
    raise ValueError("as planned")


def test_a_failure_is_of_the_request_that_was_asked_about(world):
    world.ask(b"a", b"b")
    world.asleep[b"a"] = fail
    world.wait(0.002)
    world.finish(b"b")
    world.wait(0.004)
    assert world.replies() == [b"B"]
    assert world.server.stats()["fates"]["failed"] == 1


@pytest.mark.parametrize(
    "world",
    [{"handler_timeout": 1.0, "on_error": lambda _, error: error.code.encode()}],
    indirect=True,
    ids=["timeout"],
)
def test_a_question_that_blocks_ends_at_the_deadline(world):
    ended = []

    def block():
        try:
            AsyncResult().get()
        finally:
            ended.append(True)

    world.ask(b"a")
    world.asleep[b"a"] = block
    world.wait(1.1)
    assert ended == [True]
    assert world.replies() == [b"timed_out"]
    assert world.wait(10)[0] == 0


def test_every_question_has_the_context_of_its_request(world):
    number, seen = ContextVar("number"), []

    def remember():
        number.set(len(seen))
        seen.append(number.get())

    def recall():
        seen.append(number.get(None))

    for name in (b"a", b"b"):
        world.asleep[name] = remember
        world.ask(name)
    world.ask(b"c")
    for name in (b"b", b"c", b"a"):
        world.asleep[name] = recall
        world.wait(0.01)
    assert seen == [0, 1, 1, None, 0]


@pytest.mark.parametrize("grace", [0, 0.1])
def test_a_server_that_stops_asks_no_more(grace):
    asked = []
    with running_server(until_ready(lambda request: asked.append(1))) as server:
        client = server.client()
        client.send(b"a")
        eventually(lambda: len(asked) > 3)
        server.stop(grace)
        before = len(asked)
        gevent.sleep(0.02)
        assert len(asked) == before
