"""Asks handlers again that were not ready: the requests that wait for it, and when it is done.

Rules of this file
  1. A request that waits is an entry in a table. It has no greenlet and no timer: all of a handler
     have one timer, and are asked one after the other, as the poll loop does it.
  2. A handler that blocks when it is asked delays no other: another greenlet goes on with those
     behind it. What a question leaves behind is seen to as behind every handler (handlers.py): a
     request keeps its context (contextvars) from one question to the next, and nothing else.
  3. Pauses are powers of two of a millisecond, and questions stand at multiples of their pause:
     those about different requests share wake-ups. Where nothing waits there is no timer.
  4. How long a pause is, pauses.py says, from the ages at which earlier replies were ready; and
     which share of the time the questions of such a round may take, however many wait.
  5. Where the application says what is ready, it is asked at once, and time is only the net below:
     a reply of which nobody tells is late by an eighth of what it took, by a second at the least.
  6. What another thread says goes through one callback of the hub, however often it is said until
     that has run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any

from gevent.hub import get_hub
from greenlet import getcurrent

from ..hub import forked
from ..hub.timers import repeating_timer
from ..messages.body import plain
from ..messages.ledger import ANSWERED
from ..messages.request import Request
from .departures import has_departed
from .greenlets import HandlerGreenlet, left_nothing, references
from .pauses import TOLD, Experience, pause_at
from .polling import Found, poll_pending
from .questions import Asked, Questions, is_pending, tick_of
from .rounds import NEVER, Batch, Round
from .turns import SLICE, Turns


class Asking:
    """The requests of one handler that wait in one server for the next question. Made in the
    serving thread.

    Args:
        handle_request: the handler.
        questions: those of the server.
        told: whether the application says what is ready.
    Attributes:
        told: likewise.
        said: how often somebody has said so, as far as those who ask know.
        over: whether this process was forked from the one in which they wait, or the server has
            ended.
    """

    def __init__(
        self, handle_request: Callable[[Any], Any], questions: Questions, told: bool
    ) -> None:
        self.told, self.said, self.over = told, 0, False
        self._handle, self._questions = handle_request, questions
        self._hub = get_hub()
        self._turns, self._experience = Turns(), Experience()
        self._rounds: dict[int, Round] = {}  # by key
        self._timer = repeating_timer(self._hub.loop, self._time_is_up)
        self._timer_ends = self._timer_repeats = 0
        self._batches: deque[Batch] = deque()
        self._asking = False
        self._until = 0.0
        self._idle: list[HandlerGreenlet] = []
        self.current: HandlerGreenlet | None = None
        self._named: deque[Request] = deque()
        self._all_named = self._drain_scheduled = False
        forked.arm(self)

    # -- who waits ---------------------------------------------------------------------------------

    def begin(self, asked: Asked, said: int) -> None:
        """HANDLER. Let a request wait, or ask again at once where something was said meanwhile.

        Args:
            said: ``self.said`` before the question that was asked.
        """
        request, questions = asked.request, self._questions
        assert request is not None
        if asked.waiter is None:
            key, in_flight = id(request), questions.in_flight
            if key not in in_flight.open or (
                has_departed(request) and questions.departures.put_off(request)
            ):
                return  # its handler has replied, a deadline has; or its client has gone
            in_flight.elsewhere[key] = asked
            asked.context = getcurrent().gr_context
        self._ask_again(asked, said, tick_of(monotonic()))

    def forget(self, asked: Asked) -> None:
        """HANDLER or HUB. Nobody waits for it any more."""
        if asked.request is not None and asked.waiter is None:
            self._questions.in_flight.elsewhere.pop(id(asked.request), None)
        asked.request = None
        self._leave(asked)

    def _leave(self, asked: Asked) -> None:
        """HANDLER or HUB. Take it out of its round."""
        round_, asked.round = asked.round, None
        if round_ is not None:
            round_.entries.pop(asked, None)
            if not round_.entries and not self._asking:
                self._set_timer()

    def _ask_again(self, asked: Asked, said: int, tick: int) -> None:
        """HANDLER. Let it wait in the round in which it is asked next: it was not ready."""
        if asked.request is None:
            return  # a greenlet that called the handler was ended
        if said != self.said:  # meanwhile: it may have been about this one
            self._batches.append(Batch([asked]))
            if not self._asking:
                self._asking = True
                self._hub.loop.run_callback(self._go_on)
        due = self._place(asked, tick)
        if not self._asking and (not self._timer_ends or due < self._timer_ends):
            self._set_timer()

    def _place(self, asked: Asked, tick: int) -> int:
        """HANDLER or HUB. Put it into the round to which it belongs at its age; returns when that
        is due."""
        age = tick - asked.born
        if self.told:
            key, until = pause_at(age, *TOLD), 1 << age.bit_length()
        else:
            key, until = self._experience.pause(age)
        round_ = self._rounds.get(key)
        if round_ is None:
            round_ = self._rounds[key] = Round(key)
        if asked.round is not round_:
            if asked.round is not None:
                asked.round.entries.pop(asked, None)
            round_.add(asked, tick, self._experience.version)
        round_.until = min(asked.born + until, round_.until)
        return round_.due

    def _sort(self, round_: Round, tick: int) -> None:
        """HUB. Let those of a round wait in those to which they belong by now."""
        round_.until, round_.version = NEVER, self._experience.version
        for asked in list(round_.entries):
            self._place(asked, tick)

    # -- by time -----------------------------------------------------------------------------------

    def _set_timer(self) -> None:
        """HANDLER or HUB. Wake up when the next round is due. A timer that repeats is left alone
        where it is right."""
        due = 0
        for round_ in self._rounds.values():
            if round_.entries and (not due or round_.due < due):
                due = round_.due
        if due == self._timer_ends:
            return
        self._timer_ends = due
        if not due:
            self._timer.stop()
            return
        self._timer_repeats = max(due - tick_of(monotonic()), 1)
        self._timer.repeat(self._timer_repeats / 1000)

    def _time_is_up(self) -> None:
        """HUB."""
        now = monotonic()
        tick = int(1000 * now)
        self._timer_ends = tick + self._timer_repeats
        if self._asking:
            return
        self._until = now + SLICE  # a timer fires once behind each poll
        # The next tick's too: the pauses of a millisecond end whenever the timer comes, early or
        # late by a part of one, and those that are longer are shorter by that part.
        due, version = tick + 1, self._experience.version
        for round_ in list(self._rounds.values()):
            if round_.due <= due and (tick >= round_.until or round_.version != version):
                self._sort(round_, tick)
        for round_ in self._rounds.values():
            if round_.due <= due and round_.entries:
                round_.begin(tick)
                self._batches.append(round_)
        self._ask()

    # -- the questions -----------------------------------------------------------------------------

    def _ask(self) -> None:
        """HUB. Ask those who are to be asked, for as long as this turn of the loop may take, and
        let the replies leave behind each piece."""
        self._asking = True
        questions, idle = self._questions, self._idle
        try:
            while self._batches:
                asker = idle.pop() if idle else self._new_asker()
                asker.at_work = True
                self.current = asker
                asker.switch()
                self.current = None
                if asker.at_work:  # it waits for something, within a question
                    questions.occupy(1)
                questions.mailbox.flush()
                if self._batches and monotonic() >= self._until:
                    self._turns.after_poll(self._go_on)
                    break
            else:
                self._asking = False
                self._set_timer()
        except BaseException as error:  # those who wait would wait for ever
            questions.bug(error)

    def _go_on(self) -> None:
        """HUB."""
        self._until = self._turns.begin()
        self._ask()

    def _new_asker(self) -> HandlerGreenlet:
        """HUB."""
        asker = HandlerGreenlet(self._work, self._hub)
        asker.switch()
        return asker

    def _work(self) -> None:
        """HANDLER. Ask about one after the other, as long as nobody else has this greenlet."""
        me: Any = getcurrent()
        to_hub, own = self._hub.switch, me.hold
        batches, handle, open_ = self._batches, self._handle, self._questions.in_flight.open
        to_hub()
        alone = references(me)
        while True:
            now, until, known = monotonic(), self._until, False
            while batches:
                batch, said = batches[0], self.said
                if not batch.began:
                    batch.began = now
                found = poll_pending(
                    batch.left, handle, me, self, open_, batch.steady, until, monotonic
                )
                over = found is None
                if found is not None:
                    self._see_to(me, found, said, batch.steady)
                    found = None
                    known = not left_nothing(me, alone)
                    if self.current is not me:  # it has waited, and others have gone on
                        break
                now = monotonic()
                if (over or now >= until) and batch.rest(now, over):
                    batches.popleft()
                if known or now >= until:
                    break
            me.at_work, me.hold = False, own
            if not left_nothing(me, alone):
                for link in me.links or ():
                    self._hub.loop.run_callback(link, me)
                return
            self._idle.append(me)
            to_hub()

    def _see_to(self, me: Any, found: Found, said: int, steady: bool) -> None:
        """HANDLER. Do what is to be done about one that was asked about, and about what its handler
        has left behind."""
        asked, request, result, error = found
        if request is None:
            if asked.greenlet is None:  # else the question before this one waits for something
                self.forget(asked)  # somebody else has settled it
            return
        if error is not None or not is_pending(result):
            self._end(asked, request, result, error)
        elif not steady or said != self.said:
            self._ask_again(asked, said, tick_of(monotonic()))
        asked.greenlet = None
        if me.gr_context is not None:
            asked.context, me.gr_context = me.gr_context, None
        if me.__dict__:
            me.__dict__.clear()
        if self.current is not me:
            self._questions.occupy(-1)

    def _end(
        self, asked: Asked, request: Request, result: Any, error: BaseException | None
    ) -> None:
        """HANDLER. Let a reply leave, or what went wrong be told."""
        questions, waiter = self._questions, asked.waiter
        if error is None and not self.told:
            self._experience.learn(tick_of(monotonic()) - asked.born)
        if waiter is not None:
            asked.request = None
            self._leave(asked)
            if error is None:
                waiter.set(result)
            else:
                waiter.set_exception(error)
            return
        in_flight, mailbox, key = questions.in_flight, questions.mailbox, id(request)
        try:
            body = result if type(result) is bytes else plain(result, request.frames[0])
            if error is not None:
                questions.fail(request, error)
            elif (
                body is not None
                and not mailbox.threadsafe
                and in_flight.open.pop(key, None) is not None
            ):
                (mailbox.add if self.current else mailbox.put)((request, body, ANSWERED))
            else:
                questions.finish(request, result)
        except BaseException as failure:
            questions.fail(request, failure)
        self._leave(asked)
        if in_flight.elsewhere.get(key) is asked:  # not a future's, which answers it now
            del in_flight.elsewhere[key]
        asked.request = None

    # -- when told ---------------------------------------------------------------------------------

    def tell(self, request: Request | None) -> None:
        """ANY THREAD. The reply to that request is ready; None: whichever are."""
        if request is None:
            self._all_named = True
        else:
            self._named.append(request)
        if not self._drain_scheduled:
            self._drain_scheduled = True
            with suppress(ValueError):  # the loop has been destroyed: nothing waits there
                self._hub.loop.run_callback_threadsafe(self._let_in)

    def _let_in(self) -> None:
        """HUB. The knock is forgotten first: what is said later knocks again."""
        self._drain_scheduled = False
        if not self.told:
            self.told = True
            for round_ in self._rounds.values():
                round_.until = 0  # none of them belongs there any more
        self.said += 1
        if self._all_named:
            self._all_named = False
            for round_ in self._rounds.values():
                if round_.entries:
                    self._batches.append(Batch(round_.entries))
        named: list[Asked] = []
        while self._named:
            asked = self._questions.in_flight.elsewhere.get(id(self._named.popleft()))
            if isinstance(asked, Asked) and asked.asking is self:
                named.append(asked)
        if named:
            self._batches.append(Batch(named))
        if self._batches and not self._asking:
            self._go_on()

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> None:
        """HUB or OWNER. Ask no more: the server has ended."""
        self.disarm()
        self._turns.close()
        for asker in self._idle:
            self._hub.loop.run_callback(asker.end)
        self._idle.clear()

    def disarm(self) -> None:
        """In a forked child: those that wait, wait in the parent."""
        self.over = True
        self._batches.clear()
        self._rounds.clear()
        self._timer.close()
        self._timer_ends = 0
