"""A file with the process id of a service, for init scripts and whoever sends it signals.

Rules of this file
  1. It is written whole, once the service serves: whoever waits for the file finds one that
     answers.
  2. The file of a process that is alive is left alone, and the service does not begin. One that was
     left behind is replaced.
  3. It is removed at the end, if it is still this process's.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import TracebackType

from ..errors import ConfigError


class PidFile:
    """The file of this process, or none. Use it as a context manager, and ``write`` inside.

    Args:
        path: of the file; None for none.
    Raises:
        ConfigError: another process that is alive has it, or it cannot be written.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path and os.path.abspath(path)  # the application may change the directory

    def __enter__(self) -> PidFile:
        if self._path is not None:
            check(self._path)
            pid = _read(self._path)
            if pid is not None and pid != os.getpid() and _is_alive(pid):
                raise ConfigError(
                    "pid_file",
                    self._path,
                    f"a file of its own: process {pid}, which is in it, is running",
                )
        return self

    def write(self) -> None:
        """Write it: this process serves now."""
        if self._path is None:
            return
        new = f"{self._path}.{os.getpid()}"
        try:
            with open(new, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
            os.replace(new, self._path)
        except OSError as error:
            with suppress(OSError):
                os.unlink(new)
            raise _cannot_write(self._path, error) from None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._path is not None and _read(self._path) == os.getpid():
            with suppress(OSError):
                os.unlink(self._path)


def check(path: str) -> None:
    """Check that the file can be written. Raises ConfigError."""
    folder = os.path.dirname(path) or "."
    if not os.access(folder, os.W_OK | os.X_OK) or os.path.isdir(path):
        raise ConfigError("pid_file", path, "a file in a directory that can be written to")


def _cannot_write(path: str, error: OSError) -> ConfigError:
    return ConfigError("pid_file", path, f"a file that can be written ({error.strerror})")


def _read(path: str) -> int | None:
    """The process id in a file; None where there is none."""
    with suppress(OSError, ValueError):
        with open(path, encoding="ascii") as file:
            pid = int(file.read(20))
        return pid if pid > 0 else None
    return None


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is somebody else's; there is no such number
        return True
    return True
