"""What the bench shows of what it has measured, as a table and as JSON, of figures that are made
up."""

from __future__ import annotations

import json

import pytest
from bench_figures import LOAD, measured, outcomes, words

from green_router.commands.bench.report import PERCENTILES, Outcome, Report, percentiles


@pytest.mark.parametrize(
    ("latencies", "expected"),
    [
        ([(7, 1)], [7, 7, 7, 7, 7]),
        ([(value, 1) for value in range(1, 1001)], [500, 900, 990, 999, 1000]),
        ([(30, 2), (10, 4), (20, 2), (10, 2)], [10, 30, 30, 30, 30]),
    ],
)
def test_percentiles(latencies: list[tuple[int, int]], expected: list[int]) -> None:
    assert list(percentiles(latencies).values()) == expected


def test_the_table_where_the_system_does_not_tell_the_cpu_time(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Report(LOAD, 2, None, outcomes(None)).show()
    printed = capsys.readouterr().out
    rows = [
        line.split()
        for line in printed.splitlines()
        if line.strip().startswith(("asyncio", "green", "lock"))
    ]
    assert rows == [
        ["asyncio", "2,000", "1.00", "0.10", "0.30", "-", "-", "50%"],
        ["green_router", "8,000", "4.00", "0.05", "0.15", "-", "-", "50%"],
        ["asyncio", "Slow."],
        ["green_router", "Quick."],
        ["lock", "not", "run:", "it", "must", "not"],
        ["green_naive", "failed:", "replies:", "1", "lost"],
    ]
    assert (
        "Medians of 2 rounds of 1 s; 1 client, each with 1 request of 64 bytes in flight; the "
        "handler returns at once. Every reply was checked. 1 load process, "
    ) in words(printed)
    assert "Ratios are to asyncio: above 1 is more requests" in words(printed)
    assert ">=" not in printed
    assert "Interrupted" not in printed


def test_json_has_the_ratios_of_every_figure() -> None:
    known = json.loads(Report(LOAD, 2, 4, outcomes(6.0)).as_json())
    assert known["load"] == {
        "clients": 1,
        "in_flight": 1,
        "size_bytes": 64,
        "seconds": 1.0,
        "rounds": 2,
        "sleep_us": 0,
        "workers": 4,
        "processes": 1,
    }
    assert set(known["machine"]) == {"system", "processor", "cores"}
    assert known["interrupted"] is False
    assert known["strategies"]["green_router"]["ratio"] == {
        "requests_per_second": 4,
        "latency_us": dict.fromkeys(PERCENTILES, 0.5),
        "cpu_us_per_request": 1,
        "load_cpu_us_per_request": 1,
        "load_busy": 1,
    }
    assert known["strategies"]["green_router"]["median"] == {
        "requests_per_second": 8000,
        "latency_us": dict(zip(PERCENTILES, (50, 100, 150, 200, 250), strict=True)),
        "cpu_us_per_request": 6,
        "load_cpu_us_per_request": 2.5,
        "load_busy": 0.5,
    }
    assert len(known["strategies"]["asyncio"]["rounds"]) == 2
    assert "ratio" not in known["strategies"]["green_naive"]
    unknown = json.loads(Report(LOAD, 2, None, outcomes(None)).as_json())
    assert unknown["strategies"]["green_router"]["ratio"]["cpu_us_per_request"] is None


def test_where_the_clients_are_the_limit_the_rate_is_a_lower_bound(
    capsys: pytest.CaptureFixture[str],
) -> None:
    known = {
        "short_poll": Outcome("", [measured(1000, 1.0, 0.9)] * 3),
        "green_router": Outcome(
            "", [measured(41649, 1.0, 0.89), measured(41649, 1.0, 0.97), measured(41649, 1.0, 0.93)]
        ),
    }
    report = Report(LOAD, 3, None, known)
    report.show()
    printed = capsys.readouterr().out
    assert " >= 41,649  " in printed
    assert " >= 1,000  " not in printed
    assert ">= means that the clients were the limit" in words(printed)
    assert max(map(len, printed.splitlines())) <= 80
    strategies = json.loads(report.as_json())["strategies"]
    assert [strategy["load_bound"] for strategy in strategies.values()] == [False, True]


def test_the_widest_table_fits(capsys: pytest.CaptureFixture[str]) -> None:
    figures = measured(999_999, 99.9, 1.0, latency=33_000)
    Report(
        LOAD,
        1,
        16,
        {
            "receive_and_send_threads": Outcome("", [figures]),
            "green_router, 16 workers": Outcome("", [figures]),
        },
    ).show()
    printed = capsys.readouterr().out
    assert max(map(len, printed.splitlines())) <= 80
    assert "\u2026" not in printed
    assert ">= 999,999" in printed


def test_one_that_was_interrupted_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    known = {
        "short_poll": Outcome("", [measured(1, 1.0)] * 2),
        "asyncio": Outcome("", [measured(1, 1.0)]),
        "green_router": Outcome(""),
    }
    Report(LOAD, 9, None, known, interrupted=True).show()
    printed = words(capsys.readouterr().out)
    assert "Medians of 1 to 2 rounds" in printed
    assert "green_router not measured: its turn had not come" in printed
    assert printed.endswith("Interrupted: the table has what was measured until then.")


@pytest.mark.parametrize(
    "known", [{}, {"lock": Outcome("", not_run="no")}, {"asyncio": Outcome("")}]
)
def test_nothing_was_measured(
    known: dict[str, Outcome], capsys: pytest.CaptureFixture[str]
) -> None:
    report = Report(LOAD, 1, None, known, interrupted=True)
    report.show()
    assert len(capsys.readouterr().out.splitlines()) == len(known)
    assert json.loads(report.as_json())["base"] is None
