"""Settings: each row is whole, each kind refuses what it must, and says so.

Rules of this file
  1. What holds for every row is checked on every row, those of the server and those of the service
     around it.
  2. What a kind takes and refuses is checked on a row made here, so that bounds are known.
"""

from __future__ import annotations

import math
import re
from array import array
from pathlib import Path
from typing import Any

import pytest
import zmq
import zmq.green
from hypothesis import given
from hypothesis import strategies as st

from green_router import ConfigError, Server
from green_router.messages.envelope import policy_of
from green_router.settings import SERVICE, SETTINGS, Service, Setting, Settings
from green_router.settings.access import Accounts, KeyFile, Keys, Mode, Networks
from green_router.settings.fields import setting
from green_router.settings.kinds import (
    Body,
    Choice,
    Context,
    Count,
    Engine,
    Function,
    Number,
    Policy,
    RoutingId,
    Seconds,
    Size,
    Switch,
    Text,
    Texts,
)
from green_router.settings.secret_key import SecretKey

SECRET = zmq.curve_keypair()[1]

KEY = SecretKey(SECRET)

ROWS = [*SETTINGS.values(), *SERVICE.values()]

MADE: dict[str, Setting[Any]] = {
    "integer": setting(1, Count(1, 10_000), "A number."),
    "bytes": setting(1, Size(1), "A size."),
    "seconds": setting(1.0, Seconds(0.5, 10), "A time."),
    "choice": setting("left", Choice("left", "right"), "A way."),
    "switch": setting(False, Switch(), "A light."),
    "text": setting("x", Text(), "A path."),
    "texts": setting(("x",), Texts(), "Endpoints."),
    "envelope": setting("bare", Policy(), "A policy."),
    "frames": setting(b"x", Body(), "A message."),
    "name": setting(b"x", RoutingId(), "A name."),
    "callable": setting(print, Function(), "Whom to ask."),
    "object": setting(None, Context(), "A thing."),
    "secret": setting("x", KeyFile(), "A secret."),
    "keys": setting("x", Keys(), "Some keys."),
    "networks": setting(("::1",), Networks(), "Some networks."),
    "accounts": setting((0,), Accounts(), "Some users."),
    "mode": setting(0o600, Mode(), "A mode."),
    "engine": setting("threads:1", Engine(), "Where."),
}
for made_name, made_row in MADE.items():
    made_row.name = made_name

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
    "secret": "the path of a secret key file (green-router keygen), or in a program the key as bytes",
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


# -- every row -------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_default_passes_its_own_check(row: Setting[Any]) -> None:
    final = row.check(row.default)
    assert row.check(final) == final, "the final form is a value too"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_whole(row: Setting[Any]) -> None:
    assert re.fullmatch("[a-z]+(_[a-z]+)*", row.name)
    assert type(row.kind) in {type(made.kind) for made in MADE.values()}
    assert ("bytes" in row.name.split("_")) == isinstance(row.kind, Size), (
        "sizes are in names with bytes"
    )
    if isinstance(row.kind, Number):
        assert row.kind.minimum <= row.kind.maximum
        assert not isinstance(row.kind, Seconds) or row.kind.maximum < math.inf, (
            "timers and the kernel end somewhere"
        )


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_its_doc_is_a_sentence(row: Setting[Any]) -> None:
    """It stands by itself in --help and in tables: nothing goes before it, and a default
    follows."""
    assert row.doc[0].isupper() or row.doc.startswith((row.name, "libzmq"))
    assert row.doc.endswith(".")
    assert row.doc == " ".join(row.doc.split())
    assert 10 < len(row.doc) < 250
    assert row.doc.count("(") == row.doc.count(")")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_none_is_a_value_only_where_that_is_said(row: Setting[Any]) -> None:
    assert row.absent != ""
    if row.optional:
        assert row.check(None) is None
        assert row.rule.endswith(f", or None ({row.absent})")
    else:
        assert row.default is not None
        assert_refused(row, None)


@pytest.mark.parametrize(
    "row", [row for row in ROWS if isinstance(row.kind, Number)], ids=lambda row: row.name
)
def test_bounds_are_inclusive(row: Setting[Any]) -> None:
    low, high, real = row.kind.minimum, row.kind.maximum, isinstance(row.kind, Seconds)
    assert row.check(low if real else int(low)) == low
    assert_refused(row, low - (0.0001 if real else 1))
    if high != math.inf:
        assert row.check(high) == high
        assert_refused(row, high + 1)


def test_no_name_means_two_things() -> None:
    assert not set(SETTINGS) & set(SERVICE)
    assert len({row.doc for row in ROWS}) == len(ROWS)


@pytest.mark.parametrize(("rows", "made"), [(SETTINGS, Settings), (SERVICE, Service)])
def test_each_field_is_a_row_and_an_attribute(
    rows: dict[str, Setting[Any]], made: type[Any]
) -> None:
    values = made()
    assert vars(values) == {name: row.check(row.default) for name, row in rows.items()}
    for name, row in rows.items():
        assert row.name == name
        assert getattr(made, name) is row
    with pytest.raises(AttributeError):
        getattr(object.__new__(made), next(iter(rows)))


def test_no_flag_means_two_things() -> None:
    flags = [flag for row in ROWS for flag in (f"--{row.name.replace('_', '-')}", *row.flags)]
    assert len(set(flags)) == len(flags)


# -- every kind ------------------------------------------------------------------------------------


def assert_refused(row: Setting[Any], value: Any) -> None:
    """ConfigError names the setting, the value and the rule, and nothing else comes out."""
    with pytest.raises(ConfigError) as caught:
        row.check(value)
    error = caught.value
    assert (error.setting, error.rule) == (row.name, row.rule)
    if isinstance(row.kind, KeyFile):
        assert value.__class__ is str or repr(value) not in str(error)
        assert SECRET.decode() not in str(error)
        value = error.value
    assert error.value is value
    assert str(error) == f"{row.name} = {value!r}: must be {row.rule}"
    assert error.__cause__ is None


@pytest.mark.parametrize("kind", MADE)
def test_a_rule_says_what_a_value_must_be(kind: str) -> None:
    assert MADE[kind].rule == RULES[kind]


def test_a_large_bound_is_readable() -> None:
    assert SETTINGS["send_high_water_mark"].rule == "an integer from 1 to 2,147,483,647"


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


def test_refuses_seconds_that_no_float_holds() -> None:
    assert_refused(SETTINGS["grace"], 10**400)


def test_every_kind_can_refuse() -> None:
    assert {kind for kind, _ in REFUSES} == set(RULES)


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.binary()
    | st.just(len),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner),
)


@given(st.sampled_from(ROWS), anything)
def test_any_value_is_taken_or_refused_and_nothing_else(row: Setting[Any], value: Any) -> None:
    try:
        final = row.check(value)
    except ConfigError:
        assert_refused(row, value)
    else:
        assert row.check(final) == final


# -- all together ----------------------------------------------------------------------------------


def test_what_is_not_given_has_its_default() -> None:
    values = Settings(max_in_flight=5)
    assert values.max_in_flight == 5
    assert values.grace == SETTINGS["grace"].default


def test_a_server_refuses_at_once() -> None:
    """Construction, not start: a service with a wrong setting does not come up."""
    with pytest.raises(
        ConfigError, match=r"^grace = -1: must be a number of seconds from 0 to 31,536,000$"
    ):
        Server(print, grace=-1)
    with pytest.raises(ConfigError, match=r"^handler = None: must be a callable"):
        Server(None)  # type: ignore[arg-type]


def test_what_does_not_go_together_is_refused() -> None:
    """libzmq would abort: tests/reliability/test_overloaded.py."""
    with pytest.raises(
        ConfigError,
        match=r"^duplicate_routing_id = 'handover': must be reject where heartbeat_interval is set",
    ):
        Settings(heartbeat_interval=5.0)
    assert Settings(heartbeat_interval=5.0, duplicate_routing_id="reject").heartbeat_interval == 5.0


@pytest.mark.parametrize("name", ["max_inflight", "Grace", "", "bind"])
def test_an_unknown_setting_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**{name: 1})
    assert (caught.value.setting, caught.value.value) == (name, 1)
    assert caught.value.rule == "a setting: " + ", ".join(SETTINGS)


def test_a_service_knows_its_own_settings_only() -> None:
    assert Service(workers=2).workers == 2
    with pytest.raises(ConfigError, match=r"^grace = 1: must be a setting: application, bind, "):
        Service(grace=1)


REPRS = [
    ({}, "Settings()"),
    ({"grace": 30}, "Settings()"),
    (
        {"grace": 5, "envelope": "fixed:2"},
        "Settings(envelope=EnvelopePolicy('fixed:2'), grace=5.0)",
    ),
    ({"park_timeout": None}, "Settings(park_timeout=None)"),
]


@pytest.mark.parametrize(("values", "shown"), REPRS)
def test_a_repr_shows_what_differs(values: dict[str, Any], shown: str) -> None:
    assert repr(Settings(**values)) == shown


def test_a_context_is_passed_on_as_it_is() -> None:
    with zmq.green.Context() as context:
        assert Settings(context=context).context is context
