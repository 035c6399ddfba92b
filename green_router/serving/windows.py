"""How far those who send items of streams, and pushes, may be ahead of those who take them.

Rules of this file
  1. A window has room for so many bytes. Whoever finds it full waits, in a greenlet or an OS
     thread, until all that was put before has been taken; then it is empty. A piece that begins
     within the window may end beyond it: its size is known only when it is there.
  2. All streams to one peer share its window, which is emptied when nothing waits for that peer any
     more. So a stream never runs ahead of what may be parked, and a client that reads, however
     slowly, gets everything. The next item is not even made before there is room.
  3. Pushes have one window together. It is emptied when the owner has come to them, whatever their
     peers do: one that does not read holds up nobody's pushes. What is put behind them, a reply
     say, is behind no more than one window.
  4. In the hub, and in the owner (a finalizer may run there), nobody waits: nothing could go on.
     Nor does a coroutine for a peer, because all others would wait with it: async generators await
     instead (coroutines.py).
  5. There is no lock, as in latch.py: between threads the count may be off by a piece. Who waits
     takes the latch first and then looks whether there is room; who empties a window makes room
     first and then sets the latch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from math import inf
from typing import Any
from weakref import WeakValueDictionary

from gevent import Greenlet
from gevent.hub import Hub, Waiter, get_hub
from greenlet import getcurrent

from ..hub.latch import Latch
from ..settings import Settings
from .asyncio_thread import runs_here
from .mailbox import Mailbox, get_ident

STREAM_BYTES = 128 * 1024
"""Room of a peer's window, at the most: more makes streams no faster (each time that it is full
costs some 10 us), and so much waits for each peer that reads a stream slowly. It is a quarter of
what may be parked, if that is less."""

STREAM_PIECES = 64
"""Items that fill a window, however small: so a stream gives way to others."""

PUSH_BYTES, PUSH_PIECES = 1024 * 1024, 1024
"""The same of pushes. The owner takes so many in 3 ms, and so long a reply behind them waits at the
most."""

LOOP_SECONDS = 1.0
"""How long an OS thread waits before it asks whether the loop turns at all, and then for the
answer. Where it does not, the thread goes on: it may have a lock, say, that a handler waits for,
and that would be for ever."""

OWNER_ALONE = b""
"""In the place of a routing id, of which there is none that is empty: for it nothing is ever
parked."""


class Window:
    """Room for what is on its way. Attributes: left, how many bytes there are; least, what a piece
    takes at the least."""

    __slots__ = (
        "__weakref__",
        "_asked",
        "_latch",
        "_peer",
        "_room",
        "_waiters",
        "_windows",
        "least",
        "left",
    )

    def __init__(self, windows: Windows, peer: bytes, room: int, pieces: int) -> None:
        self._windows, self._peer = windows, peer
        self._room: float = room
        self.left: float = room
        self.least = max(room // pieces, 1)
        self._asked = False
        self._latch = Latch()
        self._waiters: deque[Waiter[None]] = deque()

    def spend(self, size: int) -> None:
        """ANY THREAD. A piece of so many bytes is on its way."""
        self.left -= max(size, self.least)

    def wait(self) -> None:
        """Wait until there is room. **Blocks** the calling greenlet; **thread-safe**."""
        me = getcurrent()
        if me is self._windows.owner or isinstance(me, Hub) or (self._peer and runs_here()):
            return
        if get_ident() == self._windows.thread:
            self._wait_here()
        else:
            self._wait_elsewhere()

    def call_when_empty(self, told: Callable[[], object]) -> None:
        """ANOTHER THREAD. Call this, in whichever thread, once there may be room; more than once,
        sometimes."""
        latch = self._latch
        latch.call(told)
        self._ask()
        if self.left > 0:
            told()

    def _wait_here(self) -> None:
        while self.left <= 0:
            waiter: Waiter[None] = Waiter()
            self._waiters.append(waiter)
            self._ask()
            try:
                waiter.get()
            finally:
                with suppress(ValueError):  # it was taken out to be woken
                    self._waiters.remove(waiter)

    def _wait_elsewhere(self) -> None:
        latch = self._latch
        while self.left <= 0:
            self._ask()
            if not latch.wait(LOOP_SECONDS) and not self._windows.turns():
                return
            latch = self._latch

    def _ask(self) -> None:
        """ANY THREAD. Have it emptied when what is put now has been taken."""
        if not self._asked:
            self._asked = True
            self._windows.when_taken(self._peer, self._empty)

    def _empty(self) -> None:
        """HUB. One greenlet after the other, for as long as those before it leave room."""
        self.left = self._room
        self._asked = False
        latch, self._latch = self._latch, Latch()
        latch.set()
        while self._waiters and self.left > 0:
            self._waiters.popleft().switch(None)
        if self._waiters:
            self._ask()

    def open(self) -> None:
        """ANY THREAD. Nothing is taken any more, and nobody waits: whoever comes is told so
        elsewhere."""
        self._room = self.left = inf
        self._latch.set()
        if get_ident() == self._windows.thread:
            while self._waiters:
                self._windows.loop.run_callback(self._waiters.popleft().switch, None)


class Windows:
    """The windows of one server, or of one worker. Made in the serving thread.

    Args:
        settings: of the server; what may be parked.
        mailbox: by which the owner is asked.
        when_clear: ``when_clear(peer, callback)``, called by the owner: call back when nothing
            waits for that peer any more.
        owner: the greenlet that empties the mailbox.
    Attributes:
        pushes: the window of all pushes.
        when_clear, owner: as above.
        thread, loop: where it was made.
    """

    def __init__(
        self,
        settings: Settings,
        mailbox: Mailbox,
        when_clear: Callable[[bytes, Callable[[], None]], None],
        owner: Greenlet[..., Any],
    ) -> None:
        self.thread, self.loop = mailbox.thread, get_hub().loop
        self._mailbox = mailbox
        self._ended = False
        self._room = max(
            min(
                STREAM_BYTES,
                settings.max_parked_bytes_per_peer // 4,
                settings.max_parked_bytes // 4,
            ),
            1,
        )
        self._of_peers: WeakValueDictionary[bytes, Window] = WeakValueDictionary()
        self.pushes = Window(self, OWNER_ALONE, PUSH_BYTES, PUSH_PIECES)
        self.when_clear, self.owner = when_clear, owner

    def of(self, peer: bytes) -> Window:
        """ANY THREAD. The window of a peer: it is one as long as somebody has it in hand."""
        window = self._of_peers.get(peer)
        if window is None:
            window = self._of_peers[peer] = Window(self, peer, self._room, STREAM_PIECES)
            if self._ended:
                window.open()
        return window

    def when_taken(self, peer: bytes, callback: Callable[[], None]) -> None:
        """ANY THREAD. Call back, in the hub, when what is put now has been taken, and nothing waits
        for that peer."""
        resume: Any = partial(self.loop.run_callback, callback)
        self._mailbox.put_threadsafe(partial(self._clear, peer, resume))

    def _clear(self, peer: bytes, resume: Callable[[], None]) -> None:
        """OWNER."""
        self.when_clear(peer, resume)

    def turns(self) -> bool:
        """ANOTHER THREAD. True if the loop turns. **Blocks** until it has, for some time."""
        turned = Latch()
        with suppress(AttributeError, ValueError):  # no loop any more
            self.loop.run_callback_threadsafe(turned.set)
        return turned.wait(LOOP_SECONDS)

    def open(self) -> None:
        """ANY THREAD. The server has ended: nobody waits for anything."""
        self._ended = True
        for window in [*self._of_peers.values(), self.pushes]:
            window.open()
