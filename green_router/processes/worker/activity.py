"""Tells when the loop of a worker is idle and when it is active again, so that it need not be asked
while it is idle.

Rules of this file
  1. A loop is idle when it has been asked whether it turns, has answered, and then finds nothing to
     do. It is active when it wakes from that, whatever wakes it: the channel, a client, a timer,
     another thread. That is said before anything else is done, so that it is known also where what
     follows does not give way any more.
  2. Neither costs anything while the loop is busy: it is said once for each time it was asked.

So a loop that blocks is known to be active, and idle means no wake-ups in any process, however much
is in hand.
"""

from __future__ import annotations

from collections.abc import Callable

from gevent.hub import get_hub

from ...hub import forked
from ..channel import protocol
from ..channel.protocol import Message

FIRST, LAST = 2, -2
"""Priorities of libev: before and after all that the loop does in a turn."""


class Activity:
    """Watches the loop of the thread that made it.

    Args:
        say: ``say(message)``, to whoever asks.
    """

    def __init__(self, say: Callable[[Message], None]) -> None:
        self._say = say
        loop = get_hub().loop
        self._woken = loop.check(ref=False, priority=FIRST)
        self._idle = loop.idle(ref=False, priority=LAST)
        forked.arm(self)

    def asked(self) -> None:
        """HUB. Whoever asked has had an answer: tell when there is nothing more to do."""
        self._idle.start(self._say_idle)

    def _say_idle(self) -> None:
        self._idle.stop()
        self._woken.start(self._say_active)
        self._say(protocol.idle())

    def _say_active(self) -> None:
        self._woken.stop()
        self._say(protocol.active())

    def disarm(self) -> None:
        """In a forked child: nobody asks."""
        self._woken.stop()
        self._idle.stop()
