"""Summaries and CloudWatch's statistics of them."""

from __future__ import annotations

import random

import pytest

from sagemaker_byoc.region.services.cloudwatch.summaries import (
    DISTINCT,
    LARGEST,
    Summary,
    parse_statistic,
)


def summary(*values):
    found = Summary()
    for value in values:
        found.add(value)
    return found


HUNDRED = summary(*(float(number) for number in range(1, 101)))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("SampleCount", 100),
        ("Sum", 5050),
        ("Average", 50.5),
        ("Minimum", 1),
        ("Maximum", 100),
        ("p0", 1),
        ("p50", 50),
        ("p99.5", 100),
        ("p100", 100),
        ("tm90", sum(range(1, 91)) / 90),
        ("TM(10%:90%)", sum(range(11, 91)) / 80),
        ("TM(10:20)", sum(range(11, 21)) / 10),
        ("IQM", sum(range(26, 76)) / 50),
        ("wm99", (sum(range(1, 100)) + 99) / 100),
        ("WM(:50)", (sum(range(1, 51)) + 50 * 50) / 100),
        ("tc90", 90),
        ("TC(:30)", 30),
        ("TC(90:)", 10),
        ("ts10", 55),
        ("TS(90%:)", sum(range(91, 101))),
        ("PR(:25)", 25),
        ("PR(10:25)", 15),
    ],
)
def test_statistics(name, expected):
    assert parse_statistic(name)(HUNDRED) == pytest.approx(expected)


@pytest.mark.parametrize(
    "name",
    ["", "average", "p101", "p", "p1e1", "PR(1%:2%)", "PR(:)", "TM(10%:20)", "TM(5:5)", "TM(:101%)",
     "p99.12345678901", "TM(1%2%)", "p९"],
)  # fmt: skip
def test_a_name_that_cloudwatch_does_not_have(name):
    with pytest.raises(ValueError, match=r".*"):
        parse_statistic(name)


def test_percentiles_need_the_values_and_no_negative_one():
    assert parse_statistic("p50")(Summary.of_set(2, 3, 1, 2)) is None
    assert parse_statistic("p50")(Summary.of_set(2, 2, 1, 1)) == 1
    assert parse_statistic("p50")(summary(-1.0, 1.0)) is None
    assert parse_statistic("p50")(Summary()) is None
    mixed = summary(1.0)
    mixed.merge(Summary.of_set(2, 3, 1, 2))
    assert parse_statistic("p50")(mixed) is None
    assert parse_statistic("Sum")(mixed) == 4


@pytest.mark.parametrize("seed", range(5))
def test_rounded_values_are_not_outside_the_extremes(seed):
    draw = random.Random(seed)
    found = Summary.of_values([draw.uniform(1, 1000) for _ in range(2000)])
    for name in ("p0", "p99.9", "p100", "WM(0%:100%)"):
        assert found.minimum <= parse_statistic(name)(found) <= found.maximum
    assert sum(found.values.values()) == 2000


def test_a_summary_of_many_values_stays_small_and_near():
    draw = random.Random(1)
    values = [draw.lognormvariate(8, 1) for _ in range(20_000)]
    found = summary(*values)
    assert len(found.values) <= DISTINCT
    assert found.count == len(values)
    values.sort()
    for percent in (1, 50, 90, 99, 99.9):
        exact = values[int(len(values) * percent / 100) - 1]
        assert parse_statistic(f"p{percent}")(found) == pytest.approx(exact, rel=0.02)


def test_extreme_values_are_kept_in_bounds():
    found = summary(*(sign * LARGEST / 2.0**power for power in range(720) for sign in (1, -1)), 0.0)
    assert len(found.values) <= DISTINCT
    assert (found.minimum, found.maximum) == (-LARGEST, LARGEST)


@pytest.mark.parametrize(
    "found",
    [summary(1.5), summary(1.0, 2.0, 2.0), Summary.of_set(3, 6, 1, 3), Summary.of_set(2, 2, 1, 1)],
)
def test_a_summary_survives_the_disk(found):
    columns = (found.count, found.total, found.minimum, found.maximum, found.pack())
    assert Summary.unpack(*columns) == found


def test_a_merge_equals_one_summary_of_all():
    parts = summary(1.0, 2.0)
    other = summary(2.0, 5.0)
    parts.merge(other)
    assert parts == summary(1.0, 2.0, 2.0, 5.0)
    assert other == summary(2.0, 5.0)
