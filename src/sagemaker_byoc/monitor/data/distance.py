"""How far two distributions are apart: the tests of Deequ that SageMaker Model Monitor reports.

Source: awslabs/deequ 0b8cea5, analyzers/Distance.scala. One departure: in Deequ's rank map equal
values count once, so that a column of zeros and ones can't drift; here each counts.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from sagemaker_byoc.monitor.data.sketch import Sample

C_ALPHA = 1.8
"""c(0.003): Knuth, The Art of Computer Programming 2, 3.3.1, equation 15, as Deequ cites it."""
_FEWEST = 2
"""Categories, for a χ² test."""
_EXPECTED_OF_TWO = 10
"""With two categories each expected count is 10 or more (Cochran 1952)."""
_EXPECTED = 5
_MAY_BE_LESS = 0.2
"""With more, at most 20 % of them are below 5 (Yates, Moore, McCabe 1999)."""


@dataclass(frozen=True, slots=True)
class Gap:
    """The largest difference of two cumulative distributions, and the value where it is."""

    size: float
    at: float
    below_in_first: float
    below_in_second: float


def numeric_gap(first: Sample, second: Sample) -> Gap:
    """L∞ of the two distribution functions (Kolmogorov-Smirnov). Neither may be empty."""
    at = np.concatenate((first.values, second.values))
    one, other = first.cdf(at), second.cdf(at)
    widest = int(np.argmax(np.abs(one - other)))
    return Gap(
        size=float(abs(one[widest] - other[widest])),
        at=float(at[widest]),
        below_in_first=float(one[widest]),
        below_in_second=float(other[widest]),
    )


def category_gap(first: Mapping[str, int], second: Mapping[str, int]) -> tuple[float, str]:
    """L∞ of the shares of categories, and the category where it is. Neither may be empty."""
    n, m = sum(first.values()), sum(second.values())
    gaps = {
        name: abs(first.get(name, 0) / n - second.get(name, 0) / m)
        for name in dict.fromkeys((*first, *second))
    }
    widest = max(gaps, key=gaps.__getitem__)
    return gaps[widest], widest


def allowance(n: float, m: float, alpha: float | None = None) -> float:
    """What chance alone may make of L∞ between samples of `n` and `m` of one distribution."""
    c = C_ALPHA if alpha is None else math.sqrt(-math.log(alpha / 2) / 2)
    return c * math.sqrt((n + m) / (n * m))


def robust(gap: float, n: float, m: float, alpha: float | None = None) -> float:
    """`gap` less the allowance, at least 0."""
    return max(0.0, gap - allowance(n, m, alpha))


@dataclass(frozen=True, slots=True)
class ChiSquared:
    """`p_value` and `statistic` are NaN where fewer than two categories are left to compare."""

    statistic: float
    p_value: float
    categories: int
    merged: int
    """Categories that were too rare in the baseline and went into the next rare one."""


def chi_squared(sample: Mapping[str, int], expected: Mapping[str, int]) -> ChiSquared:
    """Goodness of fit of `sample` to the shares of `expected`, without what `expected` lacks."""
    known = sum(count for name, count in sample.items() if name in expected)
    whole = sum(expected.values())
    wanted = {name: count / whole * known for name, count in expected.items()}
    found = {name: float(sample.get(name, 0)) for name in wanted}
    before = len(wanted)
    while _too_rare(wanted):
        rarest = min(wanted, key=wanted.__getitem__)
        count, want = found.pop(rarest), wanted.pop(rarest)
        next_rare = min(wanted, key=wanted.__getitem__)
        found[next_rare] += count
        wanted[next_rare] += want
    merged = before - len(wanted)
    if len(wanted) < _FEWEST:
        return ChiSquared(math.nan, math.nan, len(wanted), merged)
    scale = sum(found.values()) / sum(wanted.values())
    statistic = sum(
        (found[name] - want * scale) ** 2 / (want * scale) for name, want in wanted.items()
    )
    return ChiSquared(statistic, chi_squared_tail(statistic, len(wanted) - 1), len(wanted), merged)


def _too_rare(wanted: Mapping[str, float]) -> bool:
    if len(wanted) < _FEWEST:
        return False
    if len(wanted) == _FEWEST:
        return any(count < _EXPECTED_OF_TWO for count in wanted.values())
    return sum(count < _EXPECTED for count in wanted.values()) > int(_MAY_BE_LESS * len(wanted))


def chi_squared_tail(statistic: float, freedom: int) -> float:
    """P(χ² with `freedom` degrees > `statistic`): the upper incomplete gamma function, regularized
    (Abramowitz and Stegun 6.5.29 as a series, 6.5.31 as a continued fraction)."""
    a, x = freedom / 2, statistic / 2
    if x <= 0:
        return 1.0
    front = math.exp(a * math.log(x) - x - math.lgamma(a))
    if x < a + 1:
        term = total = 1 / a
        step = a
        while term > total * 1e-17:
            step += 1
            term *= x / step
            total += term
        return max(0.0, 1 - front * total)
    return front * _fraction(a, x)


def _fraction(a: float, x: float) -> float:
    """Lentz's method; converges within some dozen steps for x > a + 1."""
    tiny = 1e-300
    b = x + 1 - a
    c, d = 1 / tiny, 1 / b
    value = d
    for step in range(1, 10_000):
        factor = -step * (step - a)
        b += 2
        d = 1 / (factor * d + b or tiny)
        c = b + factor / c or tiny
        value *= c * d
        if abs(c * d - 1) < 1e-16:
            break
    return value


def stability_index(actual: Mapping[str, int], expected: Mapping[str, int]) -> float:
    """Population stability index over the same buckets, none of them empty."""
    n, m = sum(actual.values()), sum(expected.values())
    return sum(
        (actual[name] / n - count / m) * math.log((actual[name] / n) / (count / m))
        for name, count in expected.items()
    )
