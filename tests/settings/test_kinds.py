"""What each kind of value takes and refuses, and that it says so.

Rules of this file
  1. What a kind takes and refuses is checked on a row made for it, so that bounds are known.
"""

from __future__ import annotations

import math
from array import array
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.green
from setting_rows import MADE, SECRET, assert_refused

from green_router.messages.envelope import policy_of
from green_router.settings import Setting
from green_router.settings.secret_key import SecretKey

KEY = SecretKey(SECRET)

RULES = {
    "integer": "an integer from 1 to 10,000",
    "bytes": "a whole number of bytes, 1 or more",
    "seconds": "a number of seconds from 0.5 to 10",
    "choice": "one of left, right",
    "switch": "true or false",
    "text": "a text",
    "texts": "a list of texts",
    "envelope": "delimiter, bare, last, fixed:N, marker:TEXT or an EnvelopePolicy",
    "frames": "bytes, or a list of them",
    "name": "1 to 255 bytes, the first of them not zero",
    "callable": "a callable",
    "object": "a zmq.green.Context",
    "secret": "the path of a secret key file (green-router keygen), or in a program "
    "the key as bytes",
    "keys": "a directory of key files, a callable, or * for every key",
    "networks": "a list of addresses and networks, as 10.0.0.0/8 or ::1; no bits after the mask",
    "accounts": "a list of names or numbers",
    "mode": "an octal mode, 0 to 0777",
    "engine": "threads:N, processes:N (N from 1 to 1,024) or dask:ADDRESS, as dask:tcp://scheduler:8786",
}


TAKES = [
    ("integer", 1, 1),
    ("integer", 10_000, 10_000),
    ("bytes", 2**40, 2**40),
    ("seconds", 0.5, 0.5),
    ("seconds", 10, 10.0),
    ("choice", "right", "right"),
    ("switch", True, True),
    ("text", "/tmp/x", "/tmp/x"),
    ("texts", ["a", "b"], ("a", "b")),
    ("texts", ("a",), ("a",)),
    ("envelope", "fixed:2", policy_of("fixed:2")),
    ("envelope", policy_of("last"), policy_of("last")),
    ("frames", b"x", [b"x"]),
    ("frames", bytearray(b"x"), [b"x"]),
    ("frames", [b"x", memoryview(b"y")], [b"x", b"y"]),
    ("frames", (b"", b""), [b"", b""]),
    ("frames", array("B", b"xy"), [b"xy"]),
    ("name", b"server", b"server"),
    ("name", bytearray(b"x\0"), b"x\0"),
    ("name", memoryview(255 * b"x"), 255 * b"x"),
    ("callable", len, len),
    ("callable", Setting, Setting),
    ("secret", Path("/tmp/server.key_secret"), "/tmp/server.key_secret"),
    ("secret", KEY, KEY),
    ("keys", Path("keys"), "keys"),
    ("keys", "*", "*"),
    ("keys", len, len),
    (
        "networks",
        ["10.0.0.0/8", "127.0.0.1", "2001:DB8::/32"],
        ("10.0.0.0/8", "127.0.0.1/32", "2001:db8::/32"),
    ),
    ("accounts", ["root", 0], ("root", 0)),
    ("mode", 0o777, 0o777),
]

REFUSES = [
    ("integer", [0, -1, 10_001, 1.0, 2.5, "1", b"1", True, None, math.nan, math.inf, [1], 10**400]),
    ("bytes", [0, 1.5, 1024.0, "64MiB", False, None, math.inf]),
    (
        "seconds",
        [0.499, 10.001, -1, "1", True, None, math.nan, math.inf, -math.inf, 1j, [1.0], 10**400],
    ),
    ("name", [b"", b"\0x", 256 * b"x", "server", None, 1, [b"x"]]),
    ("choice", ["", "Left", "leftright", 0, None, ["left"], {"left"}]),
    ("switch", ["true", "yes", 1, 0, None, "", []]),
    ("text", ["", b"x", 1, None, ["x"], True]),
    (
        "engine",
        [
            "",
            "threads",
            "threads:0",
            "threads:1025",
            "processes:many",
            "dask:scheduler",
            "ray:1",
            1,
            None,
        ],
    ),
    ("texts", [[], (), "abc", [""], ["x", ""], ["x", 1], [b"x"], None, {"x"}, 1]),
    ("envelope", ["", "guess", "fixed:0", "marker:", b"bare", 1, None, ["bare"]]),
    ("frames", ["x", [], (), ["x"], [b"x", "y"], 1, [1], None, [None], {b"x"}]),
    ("callable", ["print", 1, None, [print], b""]),
    ("secret", ["", 1, None, b"", b"abc", SECRET[:-1], SECRET.decode(), b"~" * 40, ["x"], len]),
    ("keys", ["", 1, None, b"keys", ["x"]]),
    (
        "networks",
        [[], "10.0.0.0/8", ["10.0.0.1/8"], ["localhost"], ["10.0.0.0/33"], [""], [1], None],
    ),
    ("accounts", [[], "root", [""], [-1], [2**32 - 1], [True], [None], None, {0}]),
    ("mode", [-1, 0o1000, "0600", True, None, 0.5]),
    ("object", ["anything", 1, None, zmq.green.Context]),
]


class Unorderly:
    """Refuses to be compared, counted, or shown as equal to anything."""

    def __eq__(self, other: object) -> bool:
        raise TypeError("no")

    __hash__ = None  # type: ignore[assignment]


@pytest.mark.parametrize("kind", MADE)
def test_a_rule_says_what_a_value_must_be(kind: str) -> None:
    assert MADE[kind].rule == RULES[kind]


@pytest.mark.parametrize(("kind", "value", "final"), TAKES)
def test_takes(kind: str, value: Any, final: Any) -> None:
    taken = MADE[kind].check(value)
    assert (taken, type(taken)) == (final, type(final))


@pytest.mark.parametrize(
    ("kind", "value"),
    [(kind, value) for kind, values in REFUSES for value in values],
    ids=lambda value: ascii(value)[:20],
)
def test_refuses(kind: str, value: Any) -> None:
    assert_refused(MADE[kind], value)


@pytest.mark.parametrize("kind", [kind for kind, _ in REFUSES])
def test_refuses_what_cannot_even_be_compared(kind: str) -> None:
    assert_refused(MADE[kind], Unorderly())


def test_every_kind_can_refuse() -> None:
    assert {kind for kind, _ in REFUSES} == set(RULES)
