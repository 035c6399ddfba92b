"""A log call harms nobody: whatever it is given, and whatever an application has hung into the
log."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import gevent
import pytest
import zmq
from gevent.hub import get_hub
from greenlet import GreenletExit

from green_router.hub.log import Log, words
from green_router.testing import eventually, settled

log = Log("test")


class Wordless(Exception):
    """Has no text. ``how`` is raised instead."""

    how: type[BaseException] = ValueError

    def __str__(self) -> str:
        raise self.how

    __repr__ = __str__


class Endless(Exception):
    """Its text is endless."""

    def __str__(self) -> str:
        return str(self)


class Lines(logging.Handler):
    """Keeps records, and shows each as a handler does."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(self.format(record))
        self.records.append(record)


@pytest.fixture
def hang() -> Iterator[Callable[[Any], Any]]:
    """``hang(handler or filter)``: into the log of the package, for the length of a test."""
    logger = logging.getLogger("green_router")
    with ExitStack() as stack:

        def add(what: Any) -> Any:
            if isinstance(what, logging.Handler):
                logger.addHandler(what)
                stack.callback(logger.removeHandler, what)
            else:
                # A filter of a logger is not asked for those below it.
                for name in ("handlers", "server", "test"):
                    one = logging.getLogger(f"green_router.{name}")
                    one.addFilter(what)
                    stack.callback(one.removeFilter, what)
            return what

        yield add


@pytest.mark.parametrize(
    "value", [Wordless(), Endless(), 5, "text"], ids=lambda value: type(value).__name__
)
def test_objects_without_words_are_named(hang: Any, value: object) -> None:
    lines = hang(Lines())
    log.error(
        "%s and %r and %d of %s",
        "one",
        value,
        2,
        value,
        error=value if isinstance(value, Exception) else None,
    )
    (line,) = lines.lines
    assert line.startswith("one and ")
    assert " and 2 of " in line
    assert isinstance(value, Exception) == (type(value).__name__ in line)
    assert lines.records[0].funcName == "test_objects_without_words_are_named"


def test_arguments_are_those_of_the_caller(hang: Any) -> None:
    """Whoever groups lines by their texts, or wants the error itself, finds both."""
    lines, error = hang(Lines()), ValueError("broken")
    log.critical("it is %s", "over", error=error)
    assert (lines.records[0].msg, lines.records[0].args) == ("it is %s", ("over",))
    assert lines.records[0].exc_info[1] is error
    assert lines.lines[0].endswith("ValueError: broken")


def raises(how: type[BaseException]) -> Callable[[logging.LogRecord], bool]:
    def filtering(record: logging.LogRecord) -> bool:
        raise how("a filter")

    return filtering


class Raising(logging.Handler):
    """A handler of an application, which has a mistake."""

    def emit(self, record: logging.LogRecord) -> None:
        raise RecursionError


BROKEN = {
    "a filter": raises(ValueError),
    "a handler": Raising(),
    "a recursion": raises(RecursionError),
    "no memory": raises(MemoryError),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_what_an_application_has_hung_in_does_not_reach_who_logs(
    hang: Any, capsys: Any, broken: Any
) -> None:
    hang(broken)
    log.warning("it is %s", "over")
    assert "green_router.test: it is over (not logged: " in capsys.readouterr().err


def test_nowhere_to_write_is_no_error(hang: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hang(BROKEN["a filter"])
    monkeypatch.setattr(sys, "stderr", None)
    log.warning("it is over")


@pytest.mark.parametrize("how", [GreenletExit, KeyboardInterrupt, SystemExit])
def test_what_ends_a_greenlet_does(hang: Any, how: type[BaseException]) -> None:
    hang(raises(how))
    with pytest.raises(how):
        log.warning("it is over")


def test_in_the_hub_nothing_waits(hang: Any) -> None:
    class Slow(Lines):
        def emit(self, record: logging.LogRecord) -> None:
            gevent.sleep(0)
            super().emit(record)

    lines = hang(Slow())
    get_hub().loop.run_callback(log.warning, "from the %s", "hub")
    eventually(lambda: lines.lines == ["from the hub"])


def test_words_are_there_for_everything() -> None:
    assert words(5) == "5"
    assert words("x", repr) == "'x'"
    assert words(Wordless()) == "<Wordless, which has no words: ValueError>"


# -- in a server -----------------------------------------------------------------------------------


FAILURES = {"wordless": Wordless(), "endless": Endless(), "plain": ValueError("plain")}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("error", FAILURES.values(), ids=FAILURES)
def test_a_failure_that_cannot_be_logged_harms_no_other_request(
    serve: Any, hang: Any, broken: Any, error: Exception
) -> None:
    """They come in one turn; on_error fails as well."""
    hang(broken)

    def fail(*_: Any) -> bytes:
        raise error

    server = serve(
        lambda request: fail() if request.data == b"fail" else request.data, on_error=fail
    )
    client = server.client(zmq.DEALER)
    for data in (b"one", b"fail", b"two", b"fail", b"three"):
        client.send_multipart([b"", data])
    assert [client.recv_multipart()[1] for _ in range(3)] == [b"one", b"two", b"three"]
    eventually(lambda: settled(server, "failed") == 2)
    assert server.stats()["events"]["callback_errors"] == 2
    assert server.started


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN)
def test_a_server_that_must_end_does(serve: Any, hang: Any, broken: Any) -> None:
    hang(broken)

    def leave(request: Any) -> None:
        raise SystemExit(3)

    server = serve(leave)
    server.client().send(b"x")
    with pytest.raises(SystemExit):
        server.serve_forever()
    assert not server.started


def test_a_log_that_hangs_does_not_keep_a_server_from_its_end(serve: Any, hang: Any) -> None:
    class Hanging(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            gevent.sleep(3600)

    def leave(request: Any) -> None:
        raise SystemExit(3)

    server = serve(leave)
    hanging = Hanging()
    hanging.lock = None  # each record waits by itself
    hang(hanging)
    server.client().send(b"x")
    with pytest.raises(SystemExit):
        server.serve_forever()
