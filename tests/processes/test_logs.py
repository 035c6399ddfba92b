"""What log lines look like, and where they go."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import LIMIT_SECONDS

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
    assert (
        record["level"],
        record["logger"],
        record["message"],
        record["pid"],
        record["worker"],
    ) == ("error", "app", "it is over", os.getpid(), 3)
    assert record["exception"].endswith("ValueError: ü\nbroken")
    assert record["time"].endswith("+00:00")


def test_text_names_the_process_where_there_are_several(tmp_path: Path) -> None:
    for who, words in (
        ("worker 3", f" worker 3 [{os.getpid()}] ERROR app: it is over"),
        (None, " ERROR app: it is over"),
    ):
        path = tmp_path / f"log of {who}"
        logs.set_up("info", "text", str(path), who)
        broken()
        assert words in path.read_text(encoding="utf-8").splitlines()[0]


ODD = "caf\u00e9 \udcff \U0001f600"
"""What an encoding may lack, and in the middle what all do: a byte of a name that is no text, for
instance."""


@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_with_any_character_is_in_the_file(tmp_path: Path, style: str) -> None:
    path = tmp_path / "log"
    logs.set_up("info", style, str(path))
    for _ in range(2):
        logging.getLogger("app").info("%s", ODD)
        logs.reopen()
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) == 2
    for line in lines:
        if style == "json":
            assert json.loads(line)["message"] == ODD
        else:
            assert line.endswith("INFO app: caf\u00e9 \\udcff \U0001f600")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii:strict", "latin-1"])
@pytest.mark.parametrize("style", ["text", "json"])
def test_a_line_with_any_character_is_on_standard_error(style: str, encoding: str) -> None:
    program = (
        "import logging, sys; from green_router.processes import logs; logs.set_up('info', "
        f"sys.argv[1], None); logging.getLogger('app').info('%s', {ODD!a})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, style],
        env=os.environ | {"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=LIMIT_SECONDS,
        check=True,
    )
    (line,) = done.stderr.decode(encoding.partition(":")[0]).splitlines()
    if style == "json":
        assert json.loads(line)["message"] == ODD
    else:
        assert "INFO app: caf" in line


def test_a_fifo_that_nobody_reads_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "log")
    with pytest.raises(OSError, match="No such device or address"):
        logs.check(str(tmp_path / "log"))
    reader = os.open(tmp_path / "log", os.O_RDONLY | os.O_NONBLOCK)
    try:
        logs.set_up("info", "text", str(tmp_path / "log"))
        logging.getLogger("app").info("read")
        assert os.read(reader, 1000).endswith(b"INFO app: read\n")
    finally:
        os.close(reader)


def test_a_file_that_cannot_be_opened_again_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "logs"
    directory.mkdir()
    logs.set_up("info", "text", str(directory / "log"))
    directory.rename(tmp_path / "old")
    logs.reopen()
    logging.getLogger("app").info("two")
    first, second = (tmp_path / "old" / "log").read_text().splitlines()
    assert first.endswith(
        "cannot be opened again (No such file or directory): going on in the old file"
    )
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
