"""A process that calls functions for another one: the program, and the words between the two.

Rules of this file
  1. It is started by exec and never patched, and runs by its path: it imports nothing but the
     standard library, and what the calls need. The serving process imports it too, for the words.
  2. A message is the number of a call and pickled data (protocol 5); what is large goes behind it
     as it is, uncopied. Sockets block, and are used in native threads only.
  3. It ends with its parent: at once where the kernel can see to that, otherwise when the socket
     closes, if need be by force. What is written for a service's end (SIGTERM, SIGINT) is for the
     parent, which then ends this one.
  4. Only these two processes speak: the socket has no name.

What is said: by the parent ``(config,)`` first, then ``(function, name, arguments, named)`` for a
call, None to cancel it; by the child ``(True, result)``, ``(False, error, traceback)``, or ``(None,
text)`` where the call could not be made.
"""

from __future__ import annotations

import io
import os
import pickle
import select
import signal
import socket
import struct
import sys
import time
import traceback
from _thread import start_new_thread
from collections.abc import Callable
from typing import Any

HEAD = struct.Struct("!qI")
SIZE = struct.Struct("!q")
LARGE = 64 * 1024
"""Bytes, from which on an argument or a result is not copied into the pickle."""

FORCE_AFTER = 1.0
"""Seconds that it has to end by itself when the socket has closed."""

NOT_MINE = (
    signal.SIGHUP,
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGUSR1,
    signal.SIGTTIN,
    signal.SIGTTOU,
)
"""Signals that a terminal or a service manager sends to all processes: they are the parent's."""

PR_SET_PDEATHSIG = 1


# -- the words -------------------------------------------------------------------------------------


class Pickled:
    """Pickled data in pieces: what is large in it stands there as it is. Attributes: pieces."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []

    def write(self, piece: bytes) -> None:
        """As the pickler calls it, with a whole frame, or with an object that is larger than
        one."""
        self.pieces.append(piece)


def pack(value: Any) -> list[list[Any]]:
    """Pickle data; returns the parts to be sent behind the head, each in pieces. Raises what
    pickling raises."""
    buffers: list[pickle.PickleBuffer] = []
    data = Pickled()
    pickle.Pickler(data, protocol=5, buffer_callback=buffers.append).dump(value)
    return [data.pieces, *([buffer.raw()] for buffer in buffers)]


def lifted(value: Any) -> Any:
    """The same, or what lets large bytes go beside the pickle; they arrive as bytes."""
    return pickle.PickleBuffer(value) if type(value) is bytes and len(value) >= LARGE else value


def write(to: Any, number: int, parts: list[list[Any]]) -> None:
    """Send a message. **Blocks** the thread."""
    to.sendall(HEAD.pack(number, len(parts)) + b"".join(map(_size, parts)))
    for part in parts:
        for piece in part:
            to.sendall(piece)


def _size(part: list[Any]) -> bytes:
    """The size of a part; negative for one that shall arrive so that it can be written to."""
    size = sum(map(len, part))
    return SIZE.pack(
        -size - 1 if isinstance(part[0], memoryview) and not part[0].readonly else size
    )


def read(source: Any) -> tuple[int, list[bytes | bytearray]]:
    """Receive a message, still pickled. **Blocks** the thread. Raises EOFError and OSError where
    nobody speaks any more."""
    number, count = HEAD.unpack(_exactly(source, HEAD.size))
    sizes = [size for (size,) in SIZE.iter_unpack(_exactly(source, SIZE.size * count))]
    return number, [
        _exactly(source, size) if size >= 0 else bytearray(_exactly(source, -size - 1))
        for size in sizes
    ]


def _exactly(source: Any, size: int) -> bytes:
    data: bytes = source.recv(size, socket.MSG_WAITALL) if size else b""
    while len(data) < size:  # a signal came
        more = source.recv(size - len(data), socket.MSG_WAITALL)
        if not data or not more:
            raise EOFError
        data += more
    return data


class Unpickler(pickle.Unpickler):
    """Knows whose ``__main__`` is meant. Args: main, returns that of the other process, which has
    ended up under this name."""

    def __init__(self, parts: list[bytes | bytearray], main: Callable[[], str]) -> None:
        super().__init__(io.BytesIO(parts[0]), buffers=parts[1:])
        self._main = main

    def find_class(self, module: str, name: str) -> Any:
        """As pickle calls it."""
        return super().find_class(
            self._main() if module in ("__main__", "__mp_main__") else module, name
        )


def unpack(parts: list[bytes | bytearray], main: Callable[[], str] = lambda: "__main__") -> Any:
    """Return the data of a message. Raises whatever unpickling raises."""
    return Unpickler(parts, main).load()


# -- the program -----------------------------------------------------------------------------------


class Calls:
    """Reads calls from the parent, and answers them. Args: parent, the socket."""

    def __init__(self, parent: socket.socket) -> None:
        self.parent = parent
        _, parts = self.next()
        self.config: dict[str, Any] = unpack(parts)[0]
        sys.path[:] = self.config["path"]
        self._main = ""

    def main(self) -> str:
        """Import the parent's main program under another name, once, as multiprocessing does."""
        if not self._main:
            self._main = "__mp_main__"
            if self.config["main"]:
                from multiprocessing import spawn

                spawn.prepare({"init_main_from_path": self.config["main"]})
        return self._main

    def next(self) -> tuple[int, list[bytes | bytearray]]:
        """Return the next message. Raises SystemExit at the end."""
        try:
            return read(self.parent)
        except (EOFError, OSError):
            raise SystemExit(0) from None

    def call(self, parts: list[bytes | bytearray]) -> Any:
        """Return function, arguments and named ones, or None. Raises whatever an import of the
        application raises."""
        value = unpack(parts, self.main)
        if value is None:
            return None
        function, name, arguments, named = value
        if function is None:  # a function whose name means what offload made of it
            import pkgutil

            module, path = name
            function = pkgutil.resolve_name(
                f"{self.main() if module == '__main__' else module}:{path}"
            ).__wrapped__
        return function, arguments, named

    def refuse(self, number: int, text: str) -> None:
        """Say that a call could not be made, or has no result."""
        write(self.parent, number, pack((None, text)))

    def answer(self, number: int, result: Any = None, error: BaseException | None = None) -> None:
        """Say what came of a call, or why it cannot be said."""
        try:
            value = (True, lifted(result)) if error is None else (False, error, _shown(error))
            parts = pack(value)
            if error is not None:
                # Many errors can be pickled, and not made again.
                unpack([b"".join(part) for part in parts])
        except BaseException as broken:
            what = (
                f"its result, {type(result).__name__},"
                if error is None
                else f"what it raised, {_shown(error)},"
            )
            parts = pack((None, f"{what} cannot be pickled: {type(broken).__name__}: {broken}"))
        write(self.parent, number, parts)


def _shown(error: BaseException) -> str:
    return "".join(traceback.format_exception(type(error), error, error.__traceback__)).rstrip()


def serve_calls(calls: Calls) -> None:
    """One call after the other, for ever."""
    while True:
        number, parts = calls.next()
        result = error = None
        try:
            function, arguments, named = calls.call(parts)
            del parts
            result = function(*arguments, **named)
            del arguments, named
        except BaseException as raised:
            error = raised
        calls.answer(number, result, error)
        del result, error


def end_with(parent: socket.socket) -> None:
    """Let this process end with its parent. Source: prctl(2)."""
    if sys.platform.startswith("linux"):
        try:
            import ctypes

            ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL))
        except (ImportError, OSError, AttributeError):
            pass
    start_new_thread(_force_end, (parent.fileno(),))


def _force_end(fd: int) -> None:
    """A thread: also where a call goes on."""
    end = select.poll()
    end.register(fd, 0)
    end.poll()
    time.sleep(FORCE_AFTER)
    os._exit(1)


def main() -> None:
    """``python child.py processes | dask ADDRESS``: the socket is standard input."""
    for number in NOT_MINE:
        signal.signal(number, lambda number, frame: None)
    parent = socket.socket(fileno=os.dup(0))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    end_with(parent)
    calls = Calls(parent)
    if sys.argv[1] == "dask":
        from green_router.offload.dask_client import serve_dask

        serve_dask(calls, sys.argv[2])
    serve_calls(calls)


if __name__ == "__main__":
    main()
