"""The gevent Queue through which everything reaches the owner, and what is in it.

Rules of this file
  1. Only the owner takes mail out, and ``get`` is the only place where it waits.
  2. ``put`` is for the serving thread. Every other OS thread goes through ``put_threadsafe``:
     gevent's queues are for one thread.
  3. ``put`` wakes the owner by a callback of the hub. What runs in the hub anyway spares that: it
     uses ``add``, and then ``wake``, which switches into the owner at once. Where that is sure to
     come, the owner need not wait for mail: it gives way.
  4. At most one WAKE is in it: who finds a reason to look at the socket rings, and rings in vain
     while the owner has not come to that yet.

Mail
  is a tuple ``(request, body, fate)``; or WAKE (look at the socket); or an owner callback: a
  callable that the owner calls, short, never blocking, never code of the application. ``body`` is
  bytes (one frame), a list of bytes (several), or None: nothing is sent, only the fate is counted.
  Where there is no request, or none any more, stands a ReplyEnvelope (reply_envelope.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from gevent.monkey import get_original
from gevent.queue import SimpleQueue
from greenlet import getcurrent

from ..hub import forked
from ..hub.guarded import guarded
from ..messages.ledger import FATES

WAKE = None
"""Mail that says: look at the socket."""

# tuple[Request | ReplyEnvelope, bytes | list[bytes] | None, int] | None | Callable[[], None]
Mail = Any

get_ident = get_original("_thread", "get_ident")
"""The OS thread's identity, also where the standard library is patched and would tell the
greenlet's."""


class Mailbox(SimpleQueue):  # type: ignore[type-arg]  # no [Mail] before gevent 25.4.2
    """A gevent queue that one greenlet takes from, with another beside it for other OS threads.
    Made in the serving thread.

    With one that waits, and no timeout, waiting is a switch to the hub. gevent's own makes a
    Waiter, looks for it among those that wait, and raises where it is not: 10,000 of the 91,800
    instructions that a request took which came alone (docs/performance.md).

    Args:
        failed: called with an error after which mail of other threads, or a WAKE, may be lost.

    Attributes:
        put: ``put(mail)``, serving thread only.
        add: ``add(mail)``, likewise, where ``wake`` is called soon: the owner is not woken.
        queue: what ``get`` takes from, the oldest first. Only the owner takes out.
        threadsafe: what other threads have put and ``drain_threadsafe`` has not moved yet; it is on
            its way.
        rung: whether a WAKE is in it; whoever takes that out says so here.
        more: whether there may be more in the socket: ``wake`` adds a WAKE then.
    """

    __slots__ = (
        "_drain_scheduled",
        "_failed",
        "_guarded_drain",
        "_guarded_flush",
        "_loop",
        "_resume",
        "_to_hub",
        "_waits",
        "_wake_scheduled",
        "add",
        "more",
        "put",
        "rung",
        "thread",
        "threadsafe",
    )

    def __init__(self, failed: Callable[[BaseException], object]) -> None:
        super().__init__()
        self.put: Callable[[Mail], None] = self._add_and_wake  # type: ignore[assignment]
        self.add: Callable[[Mail], None] = self.queue.append
        self._to_hub, self._loop = self.hub.switch, self.hub.loop
        self._resume: Callable[[], object] | None = None
        self._waits = False
        self.thread = get_ident()
        self.threadsafe: deque[Mail] = deque()
        self._drain_scheduled = self._wake_scheduled = self.rung = self.more = False
        self._failed = failed
        self._guarded_drain = guarded(self._drain_and_wake, failed)
        self._guarded_flush = guarded(self.flush, failed)
        forked.arm(self)

    def __len__(self) -> int:
        return len(self.queue) + len(self.threadsafe)

    def all(self) -> list[Mail]:
        """All mail that waits, the oldest first."""
        return [*self.queue, *self.threadsafe]

    def count(self, matches: Callable[[Mail], bool]) -> int:
        """How many pieces of mail match."""
        return sum(map(matches, [*self.queue, *self.threadsafe]))

    def discard(self) -> None:
        """Forget all mail, where nobody will take it out any more. Any thread."""
        self.queue.clear()
        self.threadsafe.clear()

    def put_threadsafe(self, mail: Mail) -> None:
        """Put mail from any OS thread. **Thread-safe.** One wake-up serves all that was put until
        it is answered."""
        if get_ident() == self.thread:
            self.put(mail)
            return
        self.threadsafe.append(mail)
        if not self._drain_scheduled:
            self._drain_scheduled = True
            self._loop.run_callback_threadsafe(self._guarded_drain)

    def ring(self) -> None:
        """HUB or OWNER. There is a reason to look at the socket."""
        if not self.rung:
            self.rung = True
            try:
                self.put(WAKE)
            except BaseException as error:  # nobody would ring again
                self._failed(error)

    # -- the owner waits, and is woken -------------------------------------------------------------

    def get(self) -> Mail:  # type: ignore[override]
        """OWNER. Take the oldest mail out. **Blocks** the calling greenlet until there is some."""
        mail = self.queue
        while not mail:
            self._waits = True
            self.give_way()
        return mail.popleft()

    def give_way(self) -> None:
        """OWNER. Let the hub run until ``wake`` is called, and that is sure to come. **Blocks** the
        calling greenlet so long."""
        self._resume = getcurrent().switch
        try:
            self._to_hub()
        finally:  # also when it is killed
            self._resume, self._waits = None, False

    def wake(self) -> None:
        """HUB. Let the owner run, if it gives way, or waits for mail and there is some; it looks at
        the socket where there may be more."""
        if self.more:
            self.more = False
            if not self.rung:
                self.rung = True
                self.add(WAKE)
        resume = self._resume
        if resume is not None and (self.queue or not self._waits):
            self._resume = None
            resume()

    def flush(self) -> None:
        """HUB. Let the owner take what was added, unless it gives way and is sure to."""
        self._wake_scheduled = False
        if self._waits and self.queue and self._resume is not None:
            self._waits = False
            self._resume()

    def _add_and_wake(self, mail: Mail) -> None:
        """Serving thread. Put mail; the owner runs soon, if it waits for that."""
        self.queue.append(mail)
        if self._waits and not self._wake_scheduled:
            self._loop.run_callback(self._guarded_flush)
            self._wake_scheduled = True

    # -- mail of other threads ---------------------------------------------------------------------

    def disarm(self) -> None:
        """In a forked child: nobody takes anything out any more, and no loop is woken."""
        self._drain_scheduled, self._waits = True, False
        self.queue.clear()
        self.put = self.add = nowhere

    def drain_threadsafe(self) -> None:
        """Serving thread. Move what other threads have put: it stands before what is put from now
        on. The mark is taken off first: mail that comes later schedules this again."""
        self._drain_scheduled = False
        while self.threadsafe:
            self.put(self.threadsafe.popleft())

    def _drain_and_wake(self) -> None:
        """HUB. Do the same, and let the owner run, unless it gives way and is sure to."""
        self._drain_scheduled = False
        while self.threadsafe:
            self.add(self.threadsafe.popleft())
        self.flush()


def settles(mail: Mail) -> bool:
    """True if this mail gives a request its fate."""
    return mail.__class__ is tuple and mail[2] < len(FATES)


def nowhere(mail: Mail) -> None:
    """Where mail goes in a forked child."""
