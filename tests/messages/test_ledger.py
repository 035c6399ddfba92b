"""The ledger: which fates there are, what a histogram may claim, and that snapshots add up.

Rules of this file
  1. A law over samples is checked against the samples themselves, sorted.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from green_router.messages import ledger
from green_router.messages.ledger import (
    ANSWERED,
    BUCKETS,
    EVENTS,
    FATES,
    MALFORMED,
    PARKED,
    Ledger,
    merge,
    quantile,
)

BUCKET_OF = [
    (0.0, 0),
    (0.9e-6, 0),
    (1e-6, 1),
    (1.9e-6, 1),
    (2e-6, 2),
    (3.9e-6, 2),
    (4e-6, 3),
    (1e-3, 10),
    (1.0, 20),
    (86400.0, 37),
    (1e12, 60),
]

QUANTILES = [
    ("none at all", [0, 0, 0], 0.5, 0.0),
    ("all at once", [4, 0, 0], 0.99, 1e-6),
    ("half", [1, 1, 0], 0.5, 1e-6),
    ("just over half", [1, 1, 0], 0.51, 2e-6),
    ("the slowest", [98, 1, 0, 1], 1.0, 8e-6),
    ("all but the slowest", [98, 1, 0, 1], 0.99, 2e-6),
    ("the quickest", [0, 0, 1, 9], 0.0, 4e-6),
]

seconds = st.floats(min_value=0, max_value=1e9) | st.floats(min_value=0, max_value=1e-2)


def histogram(samples: list[float]) -> list[int]:
    """What a ledger makes of these times."""
    told = Ledger()
    for sample in samples:
        told.observe(sample)
    return told.latencies


def test_each_fate_and_event_has_the_index_of_its_name() -> None:
    names = [*FATES, *EVENTS]
    assert [getattr(ledger, name.upper()) for name in names] == list(range(len(names)))
    assert len(set(names)) == len(names)


def test_a_new_ledger_says_nothing_has_happened() -> None:
    assert Ledger().snapshot() == {
        "received": 0,
        "fates": dict.fromkeys(FATES, 0),
        "events": dict.fromkeys(EVENTS, 0),
        "latency": [0] * BUCKETS,
    }


def test_only_fates_settle() -> None:
    told = Ledger()
    told.received = 10
    told.counts[ANSWERED] = 3
    told.counts[MALFORMED] = 2
    for event in range(len(FATES), len(FATES) + len(EVENTS)):
        told.counts[event] = 100
    assert (told.settled, told.unsettled) == (5, 5)


@given(st.lists(st.integers(0, len(FATES) + len(EVENTS) - 1)), st.integers(0, 100))
def test_a_snapshot_accounts_for_every_message(counted: list[int], still_open: int) -> None:
    told = Ledger()
    for index in counted:
        told.counts[index] += 1
    told.received = sum(index < len(FATES) for index in counted) + still_open
    shown = told.snapshot(in_flight=told.unsettled)
    assert shown["received"] == sum(shown["fates"].values()) + shown["in_flight"]
    assert shown["in_flight"] == told.unsettled == still_open
    assert [*shown["fates"].values(), *shown["events"].values()] == told.counts


def test_a_snapshot_is_plain_data_of_its_own() -> None:
    told = Ledger()
    shown = told.snapshot(waiting=3)
    told.received += 1
    told.counts[PARKED] += 1
    told.observe(1.0)
    assert shown == Ledger().snapshot(waiting=3)
    assert json.loads(json.dumps(shown)) == shown


@pytest.mark.parametrize(("after", "bucket"), BUCKET_OF)
def test_bucket(after: float, bucket: int) -> None:
    assert histogram([after]).index(1) == bucket


@given(seconds)
def test_a_bucket_bounds_its_times(sample: float) -> None:
    bucket = histogram([sample]).index(1)
    assert sample <= 2**bucket / 1e6
    assert bucket == 0 or sample >= 2 ** (bucket - 1) / 1e6 * (1 - 1e-15)


def test_a_count_is_observed_at_once() -> None:
    told = Ledger()
    for _ in range(7):
        told.observe(0.5)
    assert told.latencies == histogram([0.5] * 7)


@pytest.mark.parametrize(("_", "latency", "share", "within"), QUANTILES)
def test_quantile(_: str, latency: list[int], share: float, within: float) -> None:
    assert quantile(latency, share) == within


@given(st.lists(seconds, min_size=1), st.sampled_from([0.0, 0.25, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_less_than_twice_the_true_one_and_never_less(
    samples: list[float], share: float
) -> None:
    true = sorted(samples)[max(math.ceil(share * len(samples)), 1) - 1]
    told = quantile(histogram(samples), share)
    assert true <= told <= max(2 * true * (1 + 1e-15), 1e-6)


@given(st.lists(seconds), st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_takes_no_less_time(samples: list[float], one: float, other: float) -> None:
    latency = histogram(samples)
    assert quantile(latency, min(one, other)) <= quantile(latency, max(one, other))


numbers = st.integers(0, 10**6)
snapshots = st.builds(
    lambda received, fates, events, latency, gauges: {
        "received": received,
        "fates": dict(zip(FATES, fates, strict=True)),
        "events": dict(zip(EVENTS, events, strict=True)),
        "latency": latency,
        **gauges,
    },
    numbers,
    st.lists(numbers, min_size=len(FATES), max_size=len(FATES)),
    st.lists(numbers, min_size=len(EVENTS), max_size=len(EVENTS)),
    st.lists(numbers, max_size=3).map(lambda first: first + [0] * (BUCKETS - len(first))),
    st.dictionaries(st.sampled_from(["waiting", "in_flight", "parked"]), numbers),
)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> dict[tuple[Any, ...], int]:
    """Every number of plain data, by where it stands."""
    if isinstance(value, dict):
        pairs = list(value.items())
    elif isinstance(value, list):
        pairs = list(enumerate(value))
    else:
        return {path: value}
    return {
        where: number for key, part in pairs for where, number in leaves(part, (*path, key)).items()
    }


@given(st.lists(snapshots, max_size=4))
def test_merging_adds_number_by_number(parts: list[dict[str, Any]]) -> None:
    total: Counter[tuple[Any, ...]] = Counter()
    for part in [Ledger().snapshot(), *parts]:
        total.update(leaves(part))
    assert leaves(merge(parts)) == total


@given(snapshots, snapshots, snapshots)
def test_it_does_not_matter_who_is_merged_first(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    assert merge([one, two, three]) == merge([three, one, two]) == merge([merge([one, two]), three])
    assert merge([one]) == one


def test_merging_nothing_gives_an_empty_ledger() -> None:
    assert merge([]) == Ledger().snapshot()


@pytest.mark.parametrize(
    "extra", [{"parked": 3}, {"peers": {"a": 1}}, {"sizes": [1, 2]}, {"received": 3}]
)
def test_what_only_one_process_counts_is_kept(extra: dict[str, Any]) -> None:
    """Whichever comes first: during an upgrade, one of them may be a version behind."""
    whole = merge([extra, {}])
    assert whole == merge([{}, extra])
    assert all(leaves(whole)[where] == number for where, number in leaves(extra).items())


def test_merging_changes_no_snapshot() -> None:
    told = Ledger()
    told.observe(1.0)
    one, two = told.snapshot(parked=1), told.snapshot(parked=2)
    total = merge([one, two])
    total["latency"][0] += 1
    total["fates"]["answered"] += 1
    assert (one, two) == (told.snapshot(parked=1), told.snapshot(parked=2))
