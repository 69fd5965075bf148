"""Drift tests, held against the constants that Deequ's own tests publish.

awslabs/deequ 0b8cea5, src/test/scala/com/amazon/deequ/KLL/KLLDistanceTest.scala.
"""

from __future__ import annotations

import math

import numpy as np
import pytest

from sagemaker_byoc.monitor.data import distributions
from sagemaker_byoc.monitor.data.distributions import Sketch

FIRST = {"a": 10, "b": 20, "c": 25, "d": 10, "e": 5}
SECOND = {"a": 11, "b": 20, "c": 25, "d": 10, "e": 10}
OTHER_BINS = {"f": 11, "a": 20, "c": 25, "d": 10, "e": 10}
SEEN = {"a": 207, "b": 20, "c": 25, "d": 14, "e": 25, "g": 13}
FEWER = {"a": 22, "b": 20, "c": 25, "d": 12, "e": 13, "f": 15}


def sample(values):
    return Sketch.from_document([values], 4).sample()


def test_numeric():
    gap = distributions.numeric_gap(sample([1, 2, 3, 4]), sample([2, 3, 4, 5]))
    assert gap.size == 0.25
    assert distributions.robust(gap.size, 4, 4) == 0.0


def test_equal_values_count_each():
    """In Deequ they count once; a column of zeros and ones could not drift there."""
    gap = distributions.numeric_gap(sample([0] * 90 + [1] * 10), sample([0] * 50 + [1] * 50))
    assert gap.size == pytest.approx(0.4)
    assert (gap.at, gap.below_in_first, gap.below_in_second) == (0.0, 0.9, 0.5)


def test_weights():
    first = Sketch.from_document([[1.0], [2.0]], 4).sample()
    assert first.count == 3
    assert first.cdf(np.array([0.5, 1, 2])).tolist() == [0, 1 / 3, 1]


@pytest.mark.parametrize(
    ("second", "simple"), [(SECOND, 0.06015037593984962), (OTHER_BINS, 0.2857142857142857)]
)
def test_categories(second, simple):
    gap, _ = distributions.category_gap(FIRST, second)
    assert gap == pytest.approx(simple, abs=1e-15)
    assert distributions.robust(gap, 70, sum(second.values())) == 0.0


@pytest.mark.parametrize(
    ("alpha", "robust"), [(0.003, 0.2726338046550349), (0.1, 0.33774199396969184)]
)
def test_alpha(alpha, robust):
    gap, _ = distributions.category_gap(SEEN, FEWER)
    found = distributions.robust(gap, sum(SEEN.values()), sum(FEWER.values()), alpha)
    assert found == pytest.approx(robust, abs=1e-14)


BASE = {"a": 223, "b": 20, "c": 25, "d": 12, "e": 13, "f": 15}


@pytest.mark.parametrize(
    ("seen", "expected", "statistic"),
    [
        pytest.param(SEEN, BASE, 28.175042782458068, id="missing bins"),
        pytest.param(
            {"a": 100, "b": 20, "c": 25, "d": 10, "e": 5, "f": 2},
            {"a": 100, "b": 22, "c": 25, "d": 5, "e": 13, "f": 2},
            8.789790456457125,
            id="regrouping after normalizing",
        ),
        pytest.param(
            {"a": 100, "b": 40, "c": 30, "d": 10},
            {"a": 100, "b": 40, "c": 30, "e": 4},
            0.38754325259515626,
            id="regrouping",
        ),
        pytest.param(
            {"a": 100, "b": 4, "c": 3, "d": 27},
            {"a": 100, "b": 4, "c": 3, "d": 34},
            1.1507901668129925,
            id="regrouping of two",
        ),
        pytest.param(
            {"a": 100, "b": 4, "c": 3, "d": 27, "e": 20, "f": 20, "g": 20, "h": 20},
            {"a": 100, "b": 2, "c": 1, "d": 34, "e": 20, "f": 20, "g": 20, "h": 20},
            6.827423492761593,
            id="a fifth may be rare",
        ),
        pytest.param(
            {"a": 100, "b": 4, "c": 3}, {"a": 100, "b": 4, "c": 3}, math.nan, id="too few left"
        ),
    ],
)
def test_chi_squared(seen, expected, statistic):
    found = distributions.chi_squared(seen, expected)
    assert found.statistic == pytest.approx(statistic, rel=1e-13, nan_ok=True)


@pytest.mark.parametrize(
    ("seen", "expected", "p_value"),
    [
        (SEEN, BASE, 3.3640191298478506e-5),
        (
            {"a": 207, "b": 20, "c": 25, "d": 14, "e": 25},
            {"a": 223, "b": 20, "c": 25, "d": 12, "e": 13},
            0.013227994814265176,
        ),
        ({"a": 10, "b": 20}, {"b": 20}, math.nan),
        ({"a": 15, "b": 20}, {"c": 20, "d": 20}, math.nan),
        ({"a": 30}, {"a": 20, "b": 20}, 4.3204630539861455e-8),
    ],
)
def test_chi_squared_p_value(seen, expected, p_value):
    found = distributions.chi_squared(seen, expected)
    assert found.p_value == pytest.approx(p_value, rel=1e-12, nan_ok=True)


def test_chi_squared_tail_on_both_branches():
    """Against exact values: with 2 degrees exp(-x/2), with 4 that times (1 + x/2)."""
    for x in (1e-3, 0.5, 2, 5, 40, 700):
        assert distributions.chi_squared_tail(x, 2) == pytest.approx(math.exp(-x / 2), rel=1e-12)
        four = math.exp(-x / 2) * (1 + x / 2)
        assert distributions.chi_squared_tail(x, 4) == pytest.approx(four, rel=1e-12)
    assert distributions.chi_squared_tail(0, 3) == 1
    assert distributions.chi_squared_tail(1e6, 3) == 0
