"""What log lines look like, and where they go."""
from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from green_router.processes import logs


@pytest.fixture(autouse=True)
def root() -> Iterator[None]:
    """The log of the tests, put back."""
    log = logging.getLogger()
    handlers, level = log.handlers[:], log.level
    log.handlers.clear()
    yield
    for handler in log.handlers:
        handler.close()
    log.handlers[:] = handlers
    log.setLevel(level)


def broken() -> None:
    try:
        raise ValueError("ü\nbroken")
    except ValueError:
        logging.getLogger("app").exception("it is %s", "over")


def test_a_record_is_one_line_of_json(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.set_up("info", "json", str(path), "worker 3", 3)
    logging.getLogger("app").debug("not said")
    broken()
    (line,) = path.read_text(encoding="utf-8").splitlines()
    record = json.loads(line)
    assert (record["level"], record["logger"], record["message"], record["pid"], record["worker"]) == (
        "error", "app", "it is over", os.getpid(), 3)
    assert record["exception"].endswith("ValueError: ü\nbroken")
    assert record["time"].endswith("+00:00")


def test_text_names_the_process_where_there_are_several(tmp_path: Path) -> None:
    for who, words in (("worker 3", f" worker 3 [{os.getpid()}] ERROR app: it is over"), (None, " ERROR app: it is over")):
        path = tmp_path / f"log of {who}"
        logs.set_up("info", "text", str(path), who)
        broken()
        assert words in path.read_text(encoding="utf-8").splitlines()[0]


def test_a_file_that_cannot_be_opened_again_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    logs.set_up("info", "text", str(directory / "log"))
    directory.rename(tmp_path / "old")
    logs.reopen()
    logging.getLogger("app").info("two")
    first, second = (tmp_path / "old" / "log").read_text().splitlines()
    assert first.endswith("cannot be opened again (No such file or directory): going on in the old file")
    assert second.endswith("INFO app: two")


def test_a_path_is_checked_without_a_trace(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.check(str(path))
    assert not path.exists()
    path.write_text("what there is")
    logs.check(str(path))
    assert path.read_text() == "what there is"
    for impossible in (tmp_path / "none" / "log", tmp_path):
        with pytest.raises(OSError, match=r"No such file|Is a directory"):
            logs.check(str(impossible))


def test_a_file_that_was_moved_away_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "log"
    logs.set_up("info", "text", str(path))
    logging.getLogger("app").info("one")
    path.rename(tmp_path / "log.1")
    logging.getLogger("app").info("two")
    logs.reopen()
    logging.getLogger("app").info("three")
    assert [len((tmp_path / name).read_text().splitlines()) for name in ("log.1", "log")] == [2, 1]
