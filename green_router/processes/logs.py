"""What log lines look like, and where they go.

Rules of this file
  1. Text or JSON, one record a line of JSON; in several processes, each line says which one wrote it, and its pid.
  2. A file is appended to, one write a record, so that several processes share it; ``reopen`` is for whoever rotates it.
     Where it cannot be opened again, what there is goes on: no log ends a service.
"""
from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime, timezone
from typing import Any

from ..errors import ConfigError

log = logging.getLogger("green_router.logs")

TEXT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


class JsonLines(logging.Formatter):
    """A record as one line of JSON: time (UTC), level, logger, message, pid, and what else is known.

    Args:
        worker: the number of the worker, or None outside one.
    """

    def __init__(self, worker: int | None) -> None:
        super().__init__()
        self._worker = worker

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, timezone.utc).isoformat(timespec="milliseconds"),
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
        return json.dumps(line, ensure_ascii=False, default=str)


class LogFile(logging.FileHandler):
    """A file that can be opened again, under the same name."""

    def reopen(self) -> None:
        """Go on in the file that has the name now. Raises OSError; then it goes on in the one that is open."""
        stream = self._open()
        self.acquire()
        try:
            old, self.stream = self.stream, stream
        finally:
            self.release()
        if old is not None:
            old.close()


def set_up(level: str, style: str, path: str | None, who: str | None = None, worker: int | None = None) -> None:
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
    out: logging.Handler = logging.StreamHandler(sys.stderr) if path is None else LogFile(path, encoding="utf-8")
    if style == "json":
        out.setFormatter(JsonLines(worker))
    else:
        out.setFormatter(logging.Formatter(TEXT.replace(" ", f" {who} [{os.getpid()}] ", 1) if who else TEXT))
    logging.basicConfig(level=level.upper(), handlers=[out], force=True)


def reopen() -> None:
    """Open the log file again, where there is one."""
    for handler in logging.getLogger().handlers:
        if isinstance(handler, LogFile):
            try:
                handler.reopen()
            except OSError as error:
                log.error("%s cannot be opened again (%s): going on in the old file", handler.baseFilename, error.strerror)


def cannot_write(path: str | None, error: OSError) -> ConfigError:
    """That OSError, as the error of the setting."""
    return ConfigError("log_file", path, f"a file that can be written ({error.strerror})")


def check(path: str) -> None:
    """Whether a log can be written there; leaves nothing behind. Raises OSError."""
    new = not os.path.exists(path)
    with open(path, "a", encoding="utf-8"):
        pass
    if new:
        os.unlink(path)
