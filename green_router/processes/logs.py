"""What log lines look like, and where they go.

Rules of this file
  1. Text or JSON, one record a line of JSON; in several processes, each line says which one wrote it, and its pid.
  2. A file is appended to, one write a record, so that several processes share it; ``reopen`` is for whoever rotates it.
"""
from __future__ import annotations

import json
import logging
import os
import sys
from datetime import datetime, timezone
from typing import Any

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
        """Go on in the file that has the name now."""
        self.acquire()
        try:
            old, self.stream = self.stream, self._open()
            if old is not None:
                old.close()
        finally:
            self.release()


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
            handler.reopen()
