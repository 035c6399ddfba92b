"""Sends what is in the mailbox of a worker to the serving process: in the place of the owner.

Rules of this file
  1. What is in the mailbox when it looks leaves in one batch.
  2. A message that no channel can carry is lost alone, and something is said in its place: the
     serving process counts it.
  3. Late results are counted here until they are told, and nothing else is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count

import gevent

from ...hub.guarded import guarded
from ...hub.log import Log
from ...messages.ledger import (
    LATE,
    LOST_PUSHES,
    LOST_STREAM_ITEMS,
    NO_REPLY,
    PUSHES,
    STREAM_ITEMS,
    Ledger,
)
from ...serving.mailbox import Mailbox
from ...serving.reply_envelope import AddressedPush
from ..channel import protocol
from ..channel.protocol import Message, Route, event, pair, push
from ..channel.stream import Channel
from .keyed import KeyedRequest

log = Log("handlers")

BATCH = 256
"""Messages in a batch at the most: so many are held back while they are gathered."""


class Sender:
    """Takes mail, and sends it. Made in the serving thread of a worker.

    Args:
        channel: to the serving process.
        mailbox: what is to be sent.
        dropped: keys of requests that nobody can answer any more, in the order of their mail.
        ledger: where late results are counted.
        crashed: called with an error that ends the process.
    Attributes:
        greenlet: takes the mail, once it is started.
    """

    def __init__(
        self,
        channel: Channel,
        mailbox: Mailbox,
        dropped: deque[int],
        ledger: Ledger,
        crashed: Callable[[BaseException], None],
    ) -> None:
        self._channel, self._mailbox, self._dropped = channel, mailbox, dropped
        self._ledger, self._crashed = ledger, crashed
        self._batch: list[Message] = []
        self._tokens = count()
        self._clear: dict[int, Callable[[], None]] = {}
        self.greenlet = gevent.Greenlet(guarded(self._run, crashed))

    @property
    def route(self) -> Route:
        """The messages that are taken here."""
        return protocol.clear.to(self._window_clear)

    def say(self, message: Message) -> None:
        """HANDLER or HUB. Send this in its turn: after all mail that was put before."""
        self._mailbox.put(partial(self._batch.append, message))

    def _run(self) -> None:
        """Send what is in the mailbox, in batches, for ever."""
        get, empty, dropped, counts = (
            self._mailbox.get,
            self._mailbox.empty,
            self._dropped,
            self._ledger.counts,
        )
        while True:
            batch = self._batch
            mail = get()
            while True:
                if mail.__class__ is tuple:
                    request, body, fate = mail
                    if request.__class__ is KeyedRequest:
                        batch.append((request.key, fate, body))
                    elif fate == PUSHES:
                        batch.append(
                            (pair if request.__class__ is AddressedPush else push)(
                                request.frames, body
                            )
                        )
                    elif fate == NO_REPLY:
                        batch.append((dropped.popleft(), fate, None))
                    else:
                        batch.append(event(fate, 1))
                else:
                    try:
                        mail()
                    except BaseException as error:
                        self._crashed(error)
                if len(batch) >= BATCH or empty():
                    break
                mail = get()
            request = body = mail = None  # the last reference to a request must not be here
            if counts[LATE]:
                batch.append(event(LATE, counts[LATE]))
                counts[LATE] = 0
            self._flush()

    def _flush(self) -> None:
        batch = self._batch
        if not batch:
            return
        try:
            self._channel.send(batch)
        except (ValueError, MemoryError):
            for message in batch:
                self._send_alone(message)
        batch.clear()

    def _send_alone(self, message: Message) -> None:
        """One of a batch cannot be written: it is lost, the others are not."""
        try:
            self._channel.send([message])
        except (ValueError, MemoryError) as error:
            reason = "a frame is too large for the channel to the serving process"
            if isinstance(error, MemoryError):
                reason = "there is no memory to send it to the serving process"
            match message:
                case (int() as key, int() as fate, _) if fate != STREAM_ITEMS:
                    instead = protocol.unsendable(key, reason)
                case (protocol.on_error_ended.name, token, _, _):
                    instead = protocol.on_error_ended(token, False, reason)
                case (protocol.push.name | protocol.pair.name, _, _):
                    instead = event(LOST_PUSHES, 1)
                case _:
                    instead = event(LOST_STREAM_ITEMS, 1)
            self._channel.send([instead])
            log.error("%s: a message is lost", reason)

    def when_clear(self, peer: bytes, callback: Callable[[], None]) -> None:
        """OWNER. Call back when that client has taken everything: ask the serving process, behind
        the stream items that were put before."""
        token = next(self._tokens)
        self._clear[token] = callback
        self._batch.append(protocol.when_clear(token, peer))

    def _window_clear(self, token: int) -> None:
        self._clear.pop(token)()
