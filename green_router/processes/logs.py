"""The format of log lines, and their destination.

Rules of this file
  1. Text or JSON, one record a line of JSON; in several processes, each line says which one wrote
     it, and its pid.
  2. A file is appended to, one write a record, so that several processes share it; ``reopen`` is
     for whoever rotates it. Where it cannot be opened again, what there is goes on: no log ends a
     service.
  3. Every line is written: what the encoding does not have is escaped, and a line of JSON stays
     one.
  4. Nobody is waited for when a log is opened: a FIFO without a reader is an error.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime, timezone
from io import TextIOWrapper
from typing import Any

from ..errors import ConfigError
from ..hub.log import Log

log = Log("logs")

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, pid, and what else is
    known.

    Args:
        worker: the number of the worker, or None outside one.
        ascii_only: whether other characters are escaped; a surrogate, which no encoding has, always
            is.
    """

    def __init__(self, worker: int | None, ascii_only: bool = False) -> None:
        super().__init__()
        self._worker, self._ascii_only = worker, ascii_only

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(
                timespec="milliseconds"
            ),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            "pid": record.process,
        }
        if self._worker is not None:
            line["worker"] = self._worker
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack"] = record.stack_info
        return json.dumps(line, ensure_ascii=self._ascii_only, default=str)


ESCAPED = "backslashreplace"
"""What becomes of characters that cannot be encoded; of surrogates it makes what JSON has for them,
too."""


class LogFile(logging.FileHandler):
    """A file that can be opened again, under the same name."""

    def __init__(self, path: str) -> None:
        super().__init__(path, encoding="utf-8", errors=ESCAPED)

    def _open(self) -> TextIOWrapper:
        return _opened(self.baseFilename)

    def reopen(self) -> None:
        """Go on in the file that has the name now. Raises OSError; then it goes on in the one that
        is open."""
        stream = self._open()
        self.acquire()
        try:
            old, self.stream = self.stream, stream
        finally:
            self.release()
        if old is not None:
            old.close()


def set_up(
    level: str, style: str, path: str | None, who: str | None = None, worker: int | None = None
) -> None:
    """Send this process's log to standard error, or to a file.

    Args:
        level: ``debug`` ... ``critical``.
        style: ``text`` or ``json``.
        path: of the file, or None for standard error.
        who: what the process is called in text lines, where there are several.
        worker: its number, in a worker.
    Raises:
        OSError: the file cannot be opened.
    """
    out: logging.Handler = (
        logging.StreamHandler(_standard_error()) if path is None else LogFile(path)
    )
    if style == "json":
        out.setFormatter(
            JsonLines(worker, ascii_only=path is None and not _has_all_characters(sys.stderr))
        )
    else:
        out.setFormatter(
            logging.Formatter(TEXT.replace(" ", f" {who} [{os.getpid()}] ", 1) if who else TEXT)
        )
    logging.basicConfig(level=level.upper(), handlers=[out], force=True)


def reopen() -> None:
    """Open the log file again, where there is one."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            try:
                handler.reopen()
            except OSError as error:
                log.error(
                    "%s cannot be opened again (%s): going on in the old file",
                    handler.baseFilename,
                    error.strerror,
                )


def cannot_write(path: str | None, error: OSError) -> ConfigError:
    """Return that OSError as the error of the setting."""
    return ConfigError("log_file", path, f"a file that can be written ({error.strerror})")


def check(path: str) -> None:
    """Check that a log can be written there; leaves nothing behind. Raises OSError."""
    new = not os.path.exists(path)
    _opened(path).close()
    if new:
        os.unlink(path)


def _opened(path: str) -> TextIOWrapper:
    """The file, to append to. Raises OSError, also where it is a FIFO that nobody reads."""
    return open(path, "a", encoding="utf-8", errors=ESCAPED, opener=_open_at_once)


def _open_at_once(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | os.O_NONBLOCK, 0o666)
    os.set_blocking(descriptor, True)
    return descriptor


def _standard_error() -> Any:
    if isinstance(sys.stderr, TextIOWrapper):  # PYTHONIOENCODING may say otherwise
        sys.stderr.reconfigure(errors=ESCAPED)
    return sys.stderr


def _has_all_characters(stream: Any) -> bool:
    return str(getattr(stream, "encoding", "utf-8")).lower().replace("_", "-") in ("utf-8", "utf8")
