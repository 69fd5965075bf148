"""The power that a run tells, beside the same test on samples that are drawn one by one."""

from __future__ import annotations

import numpy as np
import pytest

from sagemaker_byoc.monitor.data.constraints import Method
from sagemaker_byoc.monitor.data.drift import power


def drawn(n, m, limit, shift, trials=400):
    random = np.random.default_rng(1)
    hits = 0
    for _ in range(trials):
        first, second = np.sort(random.normal(size=n)), np.sort(random.normal(shift, size=m))
        at = np.concatenate((first, second))
        gaps = [np.searchsorted(each, at, side="right") / len(each) for each in (first, second)]
        hits += np.abs(gaps[0] - gaps[1]).max() > limit
    return hits / trials


@pytest.mark.parametrize("shift", [0.5, 0.75])
def test_beside_samples(shift):
    told = power(284, 285, Method.ROBUST, 0.1)
    assert dict(told.chances)[shift] == pytest.approx(drawn(284, 285, told.limit, shift), abs=0.09)


def test_more_rows_see_more():
    chances = [dict(power(n, n, Method.ROBUST, 0.1).chances)[0.5] for n in (50, 500, 5000, 10**7)]
    assert chances == sorted(chances)
    assert chances[0] < 0.05
    assert chances[-1] == 1.0


def test_simple_gives_false_alarms_where_robust_gives_none():
    simple, robust = (dict(power(100, 100, method, 0.1).chances)[0.0] for method in Method)
    assert simple > 0.3
    assert robust == 0


def test_the_least_shift_that_is_found():
    assert power(10_000, 10_000, Method.ROBUST, 0.1).least_found == 0.5
    assert power(20, 20, Method.ROBUST, 0.1).least_found is None
