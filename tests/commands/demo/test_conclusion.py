"""The sentence below the demo's table follows from the figures."""

from __future__ import annotations

from dataclasses import replace

import pytest
from demo_figures import PLAN, measured

from green_router.commands.demo.conclusion import conclusion
from green_router.commands.demo.measure import CONTENDERS, Measured

pytestmark = pytest.mark.measures


def said(*results: Measured) -> str:
    return conclusion(PLAN, CONTENDERS[: len(results)], results)


def test_the_sentence_follows_the_figures() -> None:
    loop = measured(0.001, 0.1, lost=5)
    assert said(loop, loop) == (
        "Beside the loop, in this run: the same handler is better in 0 of 15 figures and worse "
        "in none."
    )
    assert said(loop, measured(0.0002, 0.01)) == (
        "Beside the loop, in this run: the same handler is better in 13 of 15 figures and worse "
        "in none; the widest difference is 5 clients: CPU a reply, 100 us (the same handler) "
        "instead of 1000 us."
    )
    assert said(loop, measured(0.020, 0.1, lost=5)) == (
        "Beside the loop, in this run: the same handler is better in 0 of 15 figures and worse in "
        "8 (5 clients: late p50, late p99; 100 clients: late p50, late p99; 1,000 pending: late "
        "p50, late p99; one reads nothing: late p50, late p99); the widest difference is 5 "
        "clients: late p50, 20.0 ms (the same handler) instead of 1.0 ms."
    )
    assert said(loop, measured(0.001, 0.1, lost=9)) == (
        "Beside the loop, in this run: the same handler is better in 0 of 15 figures and worse in "
        "1 (one reads nothing: its replies lost)."
    )


def test_what_was_not_measured_does_not_count() -> None:
    assert "is better in 0 of 10 figures and worse in none" in said(*[measured(0.001, None)] * 2)


def test_a_difference_within_the_noise_is_none() -> None:
    assert "better in 0 of 15 figures and worse in none" in said(
        measured(0.001, 0.1), measured(0.00105, 0.104)
    )


def test_the_cost_of_a_reply_does_not_count_on_the_number_of_replies() -> None:
    assert "better in 0 of 15 figures and worse in none" in said(
        measured(0.001, 0.1, replies=100),
        replace(measured(0.001, 0.1), few=measured(0.001, 0.05, replies=50).few),
    )
