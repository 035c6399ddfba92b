"""The tree of errors: as it is drawn, as it is, and what each says.

Rules of this file
  1. The drawing in the docstring is read and compared; nobody has to keep it true by hand.
  2. Each class is a row of ERRORS at least once, so a new one is tested or this fails.
"""

from __future__ import annotations

import pickle
import re
from typing import Any

import pytest

import green_router
from green_router import errors
from green_router.errors import (
    AlreadyReplied,
    ApplicationError,
    BadReply,
    BindError,
    ConfigError,
    ContextClosed,
    GreenRouterError,
    HandlerError,
    HandlerTimeout,
    MalformedMessage,
    OffloadFailed,
    PeerGone,
    Reject,
    ReplyError,
    ServerStopped,
    StateError,
    WorkerLost,
    WrongProcess,
    WrongThread,
)

ERRORS = [
    (
        OffloadFailed("process 7, which had it, was killed by SIGKILL"),
        "process 7, which had it, was killed by SIGKILL",
        {},
    ),
    (PeerGone(), "the client's connection has ended", {}),
    (GreenRouterError("something"), "something", {}),
    (
        ConfigError("grace", -1, "a number of seconds, 0 or more"),
        "grace = -1: must be a number of seconds, 0 or more",
        {"setting": "grace", "value": -1, "rule": "a number of seconds, 0 or more"},
    ),
    (
        ConfigError("envelope", "guess", "bare"),
        "envelope = 'guess': must be bare",
        {"value": "guess"},
    ),
    (
        BindError("tcp://127.0.0.1:80", "permission denied", 13),
        "cannot bind tcp://127.0.0.1:80: permission denied",
        {"endpoint": "tcp://127.0.0.1:80", "reason": "permission denied", "errno": 13},
    ),
    (
        BindError("nonsense", "not an endpoint"),
        "cannot bind nonsense: not an endpoint",
        {"errno": None},
    ),
    (ApplicationError("there is no module app"), "there is no module app", {}),
    (StateError("start on a server that is stopped"), "start on a server that is stopped", {}),
    (
        WrongProcess("this server", 1, 2),
        (
            "this server belongs to process 1 and cannot be used in process 2: sockets, hubs and "
            "threads do not survive a fork; make a new Server there, or start by exec"
        ),
        {"what": "this server", "owner_pid": 1, "pid": 2},
    ),
    (WrongThread("not the owner"), "not the owner", {}),
    (
        ContextClosed(),
        (
            "the ROUTER is gone: somebody has terminated or destroyed its ZeroMQ context, or "
            "closed it, while the server served; stop the server first"
        ),
        {},
    ),
    (
        MalformedMessage("no_body", [5, 0]),
        "no_body: 2 frames of 5, 0 bytes",
        {"reason": "no_body", "sizes": (5, 0)},
    ),
    (
        MalformedMessage("too_many_frames", range(9)),
        "too_many_frames: 9 frames of 0, 1, 2, 3, 4, 5, 6, 7, ... bytes",
        {"sizes": tuple(range(9))},
    ),
    (
        MalformedMessage("no_delimiter", [5, 6]),
        (
            "no_delimiter: 2 frames of 5, 6 bytes, none of them empty. The client sends its data "
            "alone, as many DEALERs do: "
            'envelope="bare" (--envelope bare) takes that'
        ),
        {},
    ),
    (
        MalformedMessage("no_delimiter", [5, 6, 7]),
        (
            'no_delimiter: 3 frames of 5, 6, 7 bytes, none of them empty. envelope="bare" '
            "(--envelope bare) takes all behind the "
            'routing id as the body, "last" the last one, "fixed:N" those behind N'
        ),
        {},
    ),
    (
        MalformedMessage("no_marker", [5, 0, 7]),
        (
            'no_marker: 3 frames of 5, 0, 7 bytes. One is empty: envelope="delimiter" (--envelope '
            "delimiter) takes what stands behind it"
        ),
        {},
    ),
    (
        MalformedMessage("too_few_frames", [5, 6]),
        (
            'too_few_frames: 2 frames of 5, 6 bytes. envelope="fixed:N" counts the routing id and '
            "needs a frame behind the N: "
            '"fixed:1" at the most'
        ),
        {},
    ),
    (MalformedMessage("no_marker", [5, 0]), "no_marker: 2 frames of 5, 0 bytes", {}),
    (ReplyError("this is a copy"), "this is a copy", {}),
    (AlreadyReplied("it has had its reply"), "it has had its reply", {}),
    (ServerStopped("the server has ended"), "the server has ended", {}),
    (Reject(), "", {"frames": [b""]}),
    (Reject(b"busy"), "b'busy'", {"frames": [b"busy"]}),
    (
        Reject(b"503", bytearray(b"busy"), memoryview(b"later")),
        "(b'503', b'busy', b'later')",
        {"frames": [b"503", b"busy", b"later"]},
    ),
    (HandlerError("it failed"), "it failed", {}),
    (HandlerTimeout(0.25), "no reply after 0.25 s (handler_timeout)", {"seconds": 0.25}),
    (
        WorkerLost(7, "was killed by SIGKILL"),
        "worker process 7, which held this request, was killed by SIGKILL",
        {"pid": 7, "cause": "was killed by SIGKILL"},
    ),
    (
        BadReply(3, "handle"),
        (
            "handle returned int: a reply is bytes, a list of bytes, (client_id, data), a "
            "generator of these, a future, or None"
        ),
        {"type_name": "int", "handler": "handle"},
    ),
    (
        BadReply("text", "handle"),
        (
            "handle returned str, .encode() it: a reply is bytes, a list of bytes, (client_id, "
            "data), a generator of these, a future, or None"
        ),
        {"type_name": "str"},
    ),
    (
        BadReply([], "handle", "without an item"),
        "handle returned list without an item",
        {"why": "without an item"},
    ),
]

CLASSES = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, GreenRouterError)
]

OF_PYTHON = {
    ConfigError: ValueError,
    BindError: OSError,
    StateError: RuntimeError,
    ReplyError: RuntimeError,
    BadReply: TypeError,
}

row = re.compile(r"    (?P<stem>[│├└─ ]*)(?P<name>[A-Z]\w+)(?P<rest>.*)")


def drawn() -> list[tuple[str, str | None, str]]:
    """The rows of the drawing: class, the class above it, and what is written beside it."""
    above: list[str] = []
    rows = []
    for match in filter(
        None, map(row.fullmatch, (errors.__doc__ or "").partition("::\n")[2].splitlines())
    ):
        depth = len(match["stem"]) // 4
        del above[depth:]
        rows.append((match["name"], above[-1] if above else None, match["rest"]))
        above.append(match["name"])
    return rows


def test_the_tree_is_the_one_that_is_drawn() -> None:
    real = [
        (kind.__name__, None if kind is GreenRouterError else kind.__bases__[0].__name__)
        for kind in CLASSES
    ]
    rows = [(name, parent) for name, parent, _ in drawn()]
    assert sorted(rows, key=str) == sorted(real, key=str)


def test_what_else_an_error_is_stands_beside_it() -> None:
    """So that code which knows nothing of us catches what it expects."""
    beside = {
        name: match[1]
        for name, _, rest in drawn()
        if (match := re.search(r"\(also an? (\w+)\)", rest))
    }
    assert beside == {kind.__name__: base.__name__ for kind, base in OF_PYTHON.items()}
    for kind in CLASSES:
        inherited = [base for base in kind.__bases__ if not issubclass(base, GreenRouterError)]
        assert (
            inherited == [OF_PYTHON[kind]]
            if kind in OF_PYTHON
            else kind is GreenRouterError or not inherited
        )


def test_each_has_a_code_of_its_own() -> None:
    codes = [vars(kind).get("code") for kind in CLASSES]
    assert all(
        isinstance(code, str) and re.fullmatch("[a-z]+(_[a-z]+)*", code) for code in codes
    ), codes
    assert len(set(codes)) == len(codes)


def test_each_has_a_row_here() -> None:
    assert {type(error) for error, _, _ in ERRORS} == set(CLASSES)


def test_the_front_door_shows_those_that_users_catch() -> None:
    shown = {kind for kind in CLASSES if kind.__name__ in green_router.__all__}
    assert set(CLASSES) - shown <= {WrongThread, WorkerLost}
    assert all(getattr(green_router, kind.__name__) is kind for kind in shown)


ids = [f"{type(error).__name__}-{number}" for number, (error, _, _) in enumerate(ERRORS)]


@pytest.mark.parametrize(("error", "text", "fields"), ERRORS, ids=ids)
def test_says(error: GreenRouterError, text: str, fields: dict[str, Any]) -> None:
    assert str(error) == text
    assert {name: getattr(error, name) for name in fields} == fields


@pytest.mark.parametrize("error", [error for error, _, _ in ERRORS], ids=ids)
def test_comes_out_of_another_process_as_it_was(error: GreenRouterError) -> None:
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        twin = pickle.loads(pickle.dumps(error, protocol))
        assert type(twin) is type(error)
        assert (str(twin), repr(twin), vars(twin), twin.args) == (
            str(error),
            repr(error),
            vars(error),
            error.args,
        )
        assert getattr(twin, "errno", None) == getattr(error, "errno", None)
        assert twin.code == error.code


def test_a_rejected_frame_is_as_it_was_when_it_was_rejected() -> None:
    held = bytearray(b"busy")
    error = Reject(memoryview(held))
    held[:] = b"free"
    assert error.frames == [b"busy"]
