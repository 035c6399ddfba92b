"""A channel between the supervisor and one worker: batches of messages over a Unix socket.

Rules of this file
  1. A message is a tuple of plain data; what it says is in protocol.py. Here it is only carried, in
     order, whole.
  2. Nothing waits: what the kernel does not take at once is kept and leaves when it can. Whoever
     sends bounds how much that can be.
  3. The other end of a channel is a process that we started, or that started us, from the same
     installation; so batches are marshalled. Measured for a request with a body of 64 bytes: 0.12
     us to write and 0.17 us to read, with pickle 0.12 and 0.2. What clients send is in there only
     as bytes.
  4. When the other process ends, however it ends, everything that it wrote is still read, and then
     ``ended`` is called, once. Afterwards what is sent is dropped.
  5. What is no batch (somebody in that process wrote to a descriptor that was not his) is an end,
     too: nothing behind it can be understood. So is an error while one is dealt with, want of
     memory for instance: half of it may have been done.

It reads and writes the descriptor with ``os.read`` and ``os.write``: nothing patches those.
"""

from __future__ import annotations

import marshal
import os
from collections import deque
from collections.abc import Callable
from struct import Struct

from gevent.hub import get_hub

from ...hub import forked
from ...hub.log import Log
from .protocol import Message

log = Log("channel")

HEAD = Struct("<Q")
"""What goes before a batch: its length in bytes."""

MARSHAL_VERSION = 2
"""The last one that does not look for equal objects, which costs time and finds none here."""

MOST_BYTES = 1 << 48
"""More than any batch has: whatever begins otherwise is none."""

READ_BYTES = 64 * 1024
"""Bytes read at once: 700 replies of 64 bytes, and so about 1 ms of work before others get their
turn. Four times as many do not make it quicker."""


def encoded(batch: list[Message]) -> bytes:
    """A batch as it goes over the channel. Raises ValueError where it is not plain data, or has a
    frame of over 2 GiB."""
    data = marshal.dumps(batch, MARSHAL_VERSION)
    return HEAD.pack(len(data)) + data


class Channel:
    """One end of a channel. Belongs to the hub of the thread that made it.

    Args:
        fd: a connected Unix stream socket; from now on it is the channel's, and non-blocking.
        received: ``received(batch)``, in the hub, with a list of messages.
        ended: ``ended()``, in the hub: the other process is gone.
    """

    __slots__ = (
        "__weakref__",
        "_buffer",
        "_ended",
        "_fd",
        "_out",
        "_out_bytes",
        "_read",
        "_received",
        "_write",
    )

    def __init__(
        self, fd: int, received: Callable[[list[Message]], None], ended: Callable[[], None]
    ) -> None:
        os.set_blocking(fd, False)
        os.set_inheritable(fd, False)
        self._fd, self._received, self._ended = fd, received, ended
        self._buffer = bytearray()
        self._out: deque[memoryview] = deque()
        self._out_bytes = 0
        loop = get_hub().loop
        self._read = loop.io(fd, 1)
        self._write = loop.io(fd, 2)
        self._read.start(self._readable)
        forked.arm(self)

    @property
    def closed(self) -> bool:
        """True if nothing can be sent any more."""
        return self._fd < 0

    @property
    def waiting_bytes(self) -> int:
        """The bytes that the kernel has not taken yet."""
        return self._out_bytes

    def send(self, batch: list[Message]) -> None:
        """Send messages, in order. Raises ValueError as ``encoded`` does; then nothing was sent."""
        data = encoded(batch)
        if self._fd < 0:
            return
        if self._out:
            self._keep(memoryview(data))
            return
        try:
            written = os.write(self._fd, data)
        except BlockingIOError:
            written = 0
        # The other end is gone; the reading side notices, after what is left to read.
        except OSError:
            return
        if written < len(data):
            self._keep(memoryview(data)[written:])
            self._write.start(self._writable)

    def _keep(self, rest: memoryview) -> None:
        self._out.append(rest)
        self._out_bytes += len(rest)

    def _writable(self) -> None:
        """HUB. The kernel has room again."""
        while self._out:
            rest = self._out[0]
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                return
            except OSError:
                self._out.clear()
                self._out_bytes = 0
                break
            self._out_bytes -= written
            if written < len(rest):
                self._out[0] = rest[written:]
                return
            self._out.popleft()
        self._write.stop()

    def _readable(self) -> None:
        """HUB. There is something to read, or an end."""
        try:
            chunk = os.read(self._fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:  # reset: it was killed with something unread
            chunk = b""
        if not chunk:
            self.close()
            self._ended()
            return
        try:
            self._buffer += chunk
            batches, sound = self._whole(self._buffer)
            for batch in batches:
                if self._fd >= 0:
                    self._received(batch)
        except BaseException as error:
            self._break("handling what came on the worker channel failed; closing it", error)
            return
        if not sound:
            self._break(
                "corrupt data on the worker channel, as if something else wrote to its descriptor; "
                "closing it"
            )

    def _break(self, why: str, error: BaseException | None = None) -> None:
        """HUB. Nothing that comes can be relied on any more."""
        if self._fd >= 0:
            self.close()
            self._ended()
            log.error(why, error=error)

    def _whole(self, buffer: bytearray) -> tuple[list[list[Message]], bool]:
        """Take the batches out that are all there, before anybody hears one: an error there must
        not repeat them. False if what comes next is none."""
        batches: list[list[Message]] = []
        start, size = 0, len(buffer)
        sound = True
        with memoryview(buffer) as view:
            while sound and size - start >= HEAD.size:
                (length,) = HEAD.unpack_from(buffer, start)
                end = start + HEAD.size + length
                if end > size:
                    sound = length < MOST_BYTES
                    break
                with view[start + HEAD.size : end] as data:
                    try:
                        batches.append(marshal.loads(data))
                    except (ValueError, EOFError, TypeError):
                        sound = False
                start = end
        del buffer[:start]
        return batches, sound

    def close(self) -> None:
        """Close this end. The other one reads what was sent, then its ``ended`` is called."""
        if self._fd >= 0:
            for watcher in (self._read, self._write):
                watcher.stop()
                watcher.close()
            os.close(self._fd)
            self._fd = -1
            self._out.clear()
            self._out_bytes = 0
            self._buffer.clear()

    disarm = (
        close  # in a forked child: the other end notices nothing, and the parent's end stays open
    )
