"""The local socket over which a supervisor is asked how things are.

Rules of this file
  1. It is for its owner alone: mode 0600, in a directory of mode 0700, and it listens only after it
     has that mode.
  2. A question is a line, the answer is one JSON document, and then the connection ends.
  3. Neither side waits for the other without a limit: the supervisor may be stopped, and so may who
     asks.
"""

from __future__ import annotations

import json
import os
import socket
import stat
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from gevent.server import StreamServer

from ..errors import ConfigError, GreenRouterError
from ..sockets.probe import listens

ANSWER_WITHIN = 10.0
"""Seconds that whoever asks waits. The supervisor answers at once, after giving its workers half a
second."""

LOOK_EVERY = 0.05
"""Seconds between two tries to connect."""

QUESTION_BYTES = 100


class Control:
    """Answers questions at a path.

    Args:
        path: of the socket; None for one named after the process, in the user's runtime directory.
        answers: question -> a callable that returns plain data; called in a greenlet, may block.
    Raises:
        ConfigError: there can be no socket at this path.
    """

    def __init__(self, path: str | None, answers: dict[str, Callable[[], Any]]) -> None:
        self._answers = answers
        self.path = path or str(directory() / f"{os.getpid()}.sock")
        listener = _listener(self.path, path is None)
        self._inode = os.stat(self.path).st_ino
        self._server = StreamServer(listener, self._answer)
        self._server.start()

    def _answer(self, peer: Any, address: object) -> None:
        with peer, suppress(OSError):
            peer.settimeout(ANSWER_WITHIN)
            question = peer.recv(QUESTION_BYTES).decode(errors="replace").strip()
            answer = self._answers.get(question)
            document = (
                answer() if answer is not None else {"error": f"unknown question {question!r}"}
            )
            peer.sendall(json.dumps(document).encode())

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        self._server.stop(timeout=0)
        with suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def _listener(path: str, in_our_directory: bool = False) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    try:
        if in_our_directory:
            make_directory(Path(path).parent)
        with suppress(FileNotFoundError):
            if stat.S_ISSOCK(os.stat(path).st_mode) and not listens(socket.AF_UNIX, path):
                os.unlink(path)
        listener.bind(path)
        os.chmod(path, 0o600)
        listener.listen(16)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise ConfigError(
            "control", path, f"a path where a socket can be made ({error.strerror or error})"
        ) from None
    return listener


def check(path: str) -> None:
    """Check that a control socket can be made there; one that answers is taken for that of the
    service in question.

    Raises:
        ConfigError: it cannot; nothing is left behind.
    """
    if not listens(socket.AF_UNIX, path):
        _listener(path).close()
        os.unlink(path)


def directory() -> Path:
    """Where the sockets of this user's supervisors are."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return (
        Path(runtime) / "green-router"
        if runtime
        else Path(tempfile.gettempdir()) / f"green-router-{os.getuid()}"
    )


def make_directory(path: Path) -> None:
    """Make it, for its owner alone. Raises OSError, also where it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not is_ours(path):
        raise PermissionError(f"others can write to {path}")


def is_ours(path: Path) -> bool:
    """True if it is a directory where nobody else can put a socket: what answers in another may be
    anybody."""
    status = path.lstat()
    return (
        stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022
    )


def supervisors() -> list[str]:
    """The paths of this user's supervisors that answer. Raises GreenRouterError as ``path_of``
    does."""
    return [
        str(path)
        for path in sorted(_checked_directory().glob("*.sock"))
        if listens(socket.AF_UNIX, str(path))
    ]


def path_of(pid: int) -> str:
    """Where the supervisor with that process id answers, unless it was told another path.

    Raises:
        GreenRouterError: others can write to the directory where it would be.
    """
    return str(_checked_directory() / f"{pid}.sock")


def _checked_directory() -> Path:
    path = directory()
    with suppress(FileNotFoundError):
        if not is_ours(path):
            raise GreenRouterError(f"others can write to {path}: nobody knows who answers there")
    return path


def ask(path: str, question: str, seconds: float = ANSWER_WITHIN) -> Any:
    """Ask a supervisor. **Blocks** the OS thread, for so many seconds at the most.

    Raises:
        GreenRouterError: it does not answer, or not in a way that can be understood.
    """
    until = monotonic() + seconds
    answer = b""
    with socket.socket(socket.AF_UNIX) as connection:
        try:
            _connect(connection, path, until)
            _within(connection, until).sendall(question.encode() + b"\n")
            while more := _within(connection, until).recv(65536):
                answer += more
            return json.loads(answer)
        except TimeoutError:
            raise GreenRouterError(
                f"{path} does not answer within {seconds:g} s: its process is stopped, or "
                "overloaded"
            ) from None
        except (OSError, ValueError) as error:
            raise GreenRouterError(f"{path} does not answer: {error}") from None


def _within(connection: socket.socket, until: float) -> socket.socket:
    """The connection, whose next call ends at that time. Raises TimeoutError where that has
    passed."""
    left = until - monotonic()
    if left <= 0:
        raise TimeoutError
    connection.settimeout(left)
    return connection


def _connect(connection: socket.socket, path: str, until: float) -> None:
    """Try until there is room: where too many wait to be accepted, a Unix socket says so at
    once."""
    while True:
        try:
            _within(connection, until).connect(path)
            return
        except BlockingIOError:
            sleep(LOOK_EVERY)
