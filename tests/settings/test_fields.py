"""Settings as fields: each row is whole, and a set of values has what was given and the defaults.

Rules of this file
  1. What holds for every row is checked on every row, those of the server and those of the service
     around it.
"""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from setting_rows import MADE, ROWS, assert_refused

from green_router import ConfigError
from green_router.settings import SERVICE, SETTINGS, Service, Setting, Settings
from green_router.settings.kinds import Number, Seconds, Size

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


@pytest.mark.parametrize("name", ["max_inflight", "Grace", "", "bind"])
def test_an_unknown_setting_is_refused_with_those_there_are(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Settings(**{name: 1})
    assert (caught.value.setting, caught.value.value) == (name, 1)
    assert caught.value.rule == "a setting: " + ", ".join(SETTINGS)


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
