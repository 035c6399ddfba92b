"""Sockets that listen at a path of the file system.

Rules of this file
  1. Whether somebody serves the path is looked at, and the path is taken, under a lock: of two that
     start at the same time, one serves it and the other one is told so. A path that a killed
     process has left over is taken at once.
  2. A path is removed by who made it, while he still listens there, and only if it is still his:
     libzmq, which removes paths after it has closed the socket, would remove that of a successor.
     So libzmq gets the listening descriptor only.
  3. Its permissions hold from the first moment, whatever the umask is, which belongs to the whole
     process: those of the socket are narrowed before it has a path, and widened, where that is
     asked for, before it listens.
  4. It is remembered from the root: the process may change its directory.
"""

from __future__ import annotations

import os
import socket
import stat
from contextlib import suppress

from ..errors import BindError
from .endpoints import cannot_bind, check_ipc_path
from .locks import Warn, alone_in


class ListeningPath:
    """A path, and the socket that listens there, which does not block.

    Args:
        endpoint: ``ipc://path``.
        backlog: how many connections may wait to be accepted.
        warn: called with a text and its arguments where there is no lock to be had.
        mode: the permissions of its file: who may write to it may connect.
    Raises:
        BindError: it cannot be served; nothing is left.
    Attributes:
        socket: close it, or hand on its descriptor.
    """

    def __init__(self, endpoint: str, backlog: int, warn: Warn, mode: int = 0o600) -> None:
        path = endpoint.removeprefix("ipc://")
        self.path = os.path.abspath(path)
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            with alone_in(os.path.dirname(path), warn):
                check_ipc_path(endpoint, path)
                with suppress(FileNotFoundError):
                    os.unlink(path)  # nobody listens there
                os.fchmod(self.socket.fileno(), mode)  # unix_bind takes this, less the umask
                self.socket.bind(path.encode())
                _widen(path, mode)
                self._file: tuple[int, int] | None = self._found()
                self.socket.listen(backlog)
            self.socket.setblocking(False)
        except BaseException as error:
            self.socket.close()
            if isinstance(error, OSError) and not isinstance(error, BindError):
                raise cannot_bind(endpoint, error) from None
            raise

    def _found(self) -> tuple[int, int] | None:
        """Return the file at the path: its device and number."""
        with suppress(OSError):
            found = os.lstat(self.path)
            return found.st_dev, found.st_ino
        return None

    def remove(self) -> None:
        """Remove the path, if it is still this socket's. Before the socket is closed: until then
        nobody takes the path."""
        if self._file is not None and self._found() == self._file:
            with suppress(OSError):
                os.unlink(self.path)
        self._file = None


def _widen(path: str, mode: int) -> None:
    """Give a socket that nobody can connect to yet its permissions, where the umask, or a system
    other than Linux, has not."""
    if stat.S_IMODE(os.lstat(path).st_mode) != mode:
        os.chmod(path, mode)
