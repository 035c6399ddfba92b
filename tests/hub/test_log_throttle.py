"""What is worth a line in the log, and how many were not."""

from __future__ import annotations

import pytest

from green_router.hub import log_throttle
from green_router.hub.log_throttle import LINES_PER_SECOND, LogThrottle


class Clock:
    """The time, as the test says."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(log_throttle, "monotonic", made)
    return made


def test_so_many_lines_a_second_and_the_rest_is_counted(clock: Clock) -> None:
    throttle = LogThrottle()
    assert sum(throttle.worth_saying() for _ in range(LINES_PER_SECOND + 7)) == LINES_PER_SECOND
    clock.now += 1
    assert throttle.worth_saying()
    assert throttle.others() == " (7 more since the last such line)"
    assert throttle.others() == ""


def test_one_line_a_second_about_the_same_culprit(clock: Clock) -> None:
    throttle = LogThrottle()
    assert [throttle.worth_saying(peer) for peer in (b"a", b"b", b"a", b"b", b"c")] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert throttle.others() == " (2 more since the last such line)"
    clock.now += 1
    assert throttle.worth_saying(b"a")


def test_nobody_is_no_culprit(clock: Clock) -> None:
    throttle = LogThrottle()
    assert throttle.worth_saying() and throttle.worth_saying()
