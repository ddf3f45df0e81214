"""The table at the end of the benchmarks says of each figure whether it is reached."""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.targets import as_table, verdicts


def reaction(p50: float, ratio: float) -> dict[str, Any]:
    return {
        "reaction": {"p50": p50, "p99": 3.0},
        "ratio_p50_same_steps": ratio,
        "ratio_p99_same_steps": 1.0,
    }


@pytest.mark.parametrize(
    ("p50", "ratio", "met"),
    [
        (2.0, 3.0, "yes"),
        (2.01, 1.25, "by its floor"),
        (2.01, 1.26, "no"),
    ],
)
def test_a_time_that_is_not_reached_counts_up_to_a_quarter_above_its_floor(
    p50: float, ratio: float, met: str
) -> None:
    [of_p50, of_p99] = verdicts({"reaction-sqlite": reaction(p50, ratio)})

    assert (of_p50.what, of_p50.met) == ("p50", met)
    assert (of_p99.what, of_p99.met) == ("p99", "yes")


def growth(smallest: int, largest: int) -> dict[str, Any]:
    of = {"1000": {"memory_mb": smallest}, "1000000": {"memory_mb": largest}}
    return {"growth-postgresql": {"database": "postgresql", "growth_p50": 1.2, **of}}


def test_memory_that_grows_with_the_recalls_is_told() -> None:
    assert [verdict.met for verdict in verdicts(growth(70, 77))] == ["yes", "yes"]
    assert [verdict.met for verdict in verdicts(growth(70, 90))] == ["yes", "no"]


def engines(*runs: tuple[int, float, float]) -> dict[str, Any]:
    kind = {
        str(number): {"recalls": 100, "dialled": dialled, "recalls_per_second": a_second,
                      "statements_per_recall": statements}
        for number, (dialled, a_second, statements) in enumerate(runs)
    }  # fmt: skip
    return {"engines": {"agents_talk": kind, "agents_do_not_talk": {}}}


@pytest.mark.parametrize(
    ("second", "met"),
    [
        ((100, 45.0, 31.0), ["yes", "yes", "yes"]),
        ((101, 45.0, 31.0), ["no", "yes", "yes"]),
        ((100, 45.0, 60.0), ["yes", "no", "yes"]),
        ((100, 23.0, 31.0), ["yes", "yes", "no"]),
    ],
)
def test_engines_that_call_twice_or_hinder_each_other_are_told(
    second: tuple[int, float, float], met: list[str]
) -> None:
    assert [verdict.met for verdict in verdicts(engines((100, 46.0, 30.0), second))] == met


def test_calls_that_were_dropped_are_told() -> None:
    storm = {
        "database": "sqlite", "calls": 10000, "on_disk": 9999, "one_by_one_ratio": 1.0,
        "on_disk_after_the_last_was_sent": 0.5, "on_disk_after_the_storm_was_due": 9.0,
    }  # fmt: skip

    assert [verdict.met for verdict in verdicts({"recording": [storm]})] == ["yes", "", "yes", "no"]


def test_rows_without_something_to_reach_are_in_no_table() -> None:
    assert verdicts({"board-sqlite": {"p50": 1.0}}) == []


def test_the_table_says_what_was_measured_and_what_was_wanted() -> None:
    table = as_table(verdicts({"throughput-sqlite": {"per_second": 438.94}}))

    assert table.splitlines()[1].split("  ") == [
        "throughput-sqlite", "from claim to closed", "438.94 a second", "at least 150 a second", "yes"
    ]  # fmt: skip
