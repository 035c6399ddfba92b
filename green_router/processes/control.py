"""The local socket over which a supervisor is asked how things are.

Rules of this file
  1. It is for its owner alone: mode 0600, in a directory of mode 0700, and it listens only after it has that mode.
  2. A question is a line, the answer is one JSON document, and then the connection ends.
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
from typing import Any

from gevent.server import StreamServer

from ..errors import ConfigError, GreenRouterError

ANSWER_WITHIN = 10.0
"""Seconds that whoever asks waits. The supervisor answers at once, after giving its workers half a second."""

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
        listener = socket.socket(socket.AF_UNIX)
        try:
            if path is None:
                make_directory(Path(self.path).parent)
            with suppress(FileNotFoundError):
                if stat.S_ISSOCK(os.stat(self.path).st_mode) and not answering(self.path):
                    os.unlink(self.path)
            listener.bind(self.path)
            os.chmod(self.path, 0o600)
            listener.listen(16)
            listener.setblocking(False)
        except OSError as error:
            listener.close()
            raise ConfigError("control", self.path, f"a path where a socket can be made ({error.strerror or error})") from None
        self._inode = os.stat(self.path).st_ino
        self._server = StreamServer(listener, self._answer)
        self._server.start()

    def _answer(self, peer: Any, address: object) -> None:
        with peer, suppress(OSError):
            peer.settimeout(ANSWER_WITHIN)
            question = peer.recv(QUESTION_BYTES).decode(errors="replace").strip()
            answer = self._answers.get(question)
            document = answer() if answer is not None else {"error": f"unknown question {question!r}"}
            peer.sendall(json.dumps(document).encode())

    def close(self) -> None:
        """Stop answering, and remove the socket."""
        self._server.stop(timeout=0)
        with suppress(OSError):
            if os.stat(self.path).st_ino == self._inode:
                os.unlink(self.path)


def directory() -> Path:
    """Where the sockets of this user's supervisors are."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    return Path(runtime) / "green-router" if runtime else Path(tempfile.gettempdir()) / f"green-router-{os.getuid()}"


def make_directory(path: Path) -> None:
    """Make it, for its owner alone. Raises OSError, also where it is somebody else's."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise PermissionError(f"others can write to {path}")


def answering(path: str) -> bool:
    """Whether somebody listens at that path."""
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except OSError:
            return False
    return True


def supervisors() -> list[str]:
    """The paths of this user's supervisors that answer."""
    return [str(path) for path in sorted(directory().glob("*.sock")) if answering(str(path))]


def ask(path: str, question: str) -> Any:
    """Ask a supervisor. **Blocks**, 10 s at the most.

    Raises:
        GreenRouterError: it does not answer, or not in a way that can be understood.
    """
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(ANSWER_WITHIN)
        try:
            connection.connect(path)
            connection.sendall(question.encode() + b"\n")
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            return json.loads(answer)
        except (OSError, ValueError) as error:
            raise GreenRouterError(f"{path} does not answer: {error}") from None
