"""A quantile sketch (KLL) of one numeric column, in the form that statistics.json keeps.

A value on level h stands for 2^h values. Up to about `k` values the sketch is the sample itself, so
that distances of small windows are exact; above, ranks are off by about 1/k of the whole (measured
in tests). Deequ gives its lowest level the most room; this one its highest, as in the paper
(Karnin, Lang, Liberty 2016), which is far closer for the same size. Readers can't tell them apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Values = npt.NDArray[np.float64]

K = 2048
C = 0.64
"""Deequ's defaults, and what statistics.json carries."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Sorted values, and how many of the whole lie at or below each."""

    values: Values
    ranks: Values

    @property
    def count(self) -> float:
        return float(self.ranks[-1]) if len(self.ranks) else 0.0

    def cdf(self, at: Values) -> Values:
        """Return the share of the whole that is at or below each of `at`."""
        if not len(self.values):
            return np.zeros(len(at))
        place = np.searchsorted(self.values, at, side="right")
        return np.concatenate(([0.0], self.ranks))[place] / self.count

    def quantiles(self, shares: Values) -> Values:
        place = np.searchsorted(self.ranks, np.asarray(shares) * self.count, side="left")
        return self.values[np.minimum(place, len(self.values) - 1)]


class Sketch:
    """`add` arrays; never holds more than about 6,000 values beside the array that comes in."""

    def __init__(self, k: int = K, c: float = C) -> None:
        self.k = k
        self.c = c
        self.levels: list[Values] = [np.empty(0)]
        self._coin = random.Random(0)  # noqa: S311 - the same data gives the same sketch

    @property
    def count(self) -> int:
        return sum(len(level) << height for height, level in enumerate(self.levels))

    def add(self, values: Values) -> None:
        """Add finite values."""
        self.levels[0] = np.concatenate((self.levels[0], values))
        while sum(map(len, self.levels)) > self._room():
            self._compact()

    def sample(self) -> Sample:
        values = np.concatenate(self.levels)
        weights = np.repeat(
            [float(1 << height) for height in range(len(self.levels))],
            [len(level) for level in self.levels],
        )
        order = np.argsort(values, kind="stable")
        return Sample(values[order], np.cumsum(weights[order]))

    def document(self) -> list[list[float]]:
        return [[float(value) for value in np.sort(level)] for level in self.levels]

    @classmethod
    def from_document(cls, data: Sequence[Sequence[float]], k: int = K, c: float = C) -> Sketch:
        """Raise ValueError or TypeError for anything but lists of finite numbers."""
        sketch = cls(k, c)
        sketch.levels = [np.asarray(level, dtype=np.float64).reshape(-1) for level in data]
        if not all(np.isfinite(level).all() for level in sketch.levels):
            raise ValueError("a sketch holds finite numbers")
        sketch.levels = sketch.levels or [np.empty(0)]
        return sketch

    def _capacity(self, height: int) -> int:
        below_top = len(self.levels) - 1 - height
        return 2 * (math.ceil(self.k * self.c**below_top / 2) + 1)

    def _room(self) -> int:
        return sum(self._capacity(height) for height in range(len(self.levels)))

    def _compact(self) -> None:
        height = next(
            height
            for height, level in enumerate(self.levels)
            if len(level) >= self._capacity(height)
        )
        if height + 1 == len(self.levels):
            self.levels.append(np.empty(0))
        level = np.sort(self.levels[height])
        pairs = len(level) - len(level) % 2
        promoted = level[self._coin.getrandbits(1) : pairs : 2]
        self.levels[height] = level[pairs:]
        self.levels[height + 1] = np.concatenate((self.levels[height + 1], promoted))


# ── how far two are apart ──


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
    """Return L∞ of the distribution functions (Kolmogorov-Smirnov). Neither may be empty."""
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
    """Return L∞ of the shares of categories, and the category where it is. Neither may be empty."""
    n, m = sum(first.values()), sum(second.values())
    gaps = {
        name: abs(first.get(name, 0) / n - second.get(name, 0) / m)
        for name in dict.fromkeys((*first, *second))
    }
    widest = max(gaps, key=gaps.__getitem__)
    return gaps[widest], widest


def allowance(n: float, m: float, alpha: float | None = None) -> float:
    """Return what chance alone may make of L∞ between `n` and `m` values of one distribution."""
    c = C_ALPHA if alpha is None else math.sqrt(-math.log(alpha / 2) / 2)
    return c * math.sqrt((n + m) / (n * m))


def robust(gap: float, n: float, m: float, alpha: float | None = None) -> float:
    """`gap` less the allowance, at least 0."""
    return max(0.0, gap - allowance(n, m, alpha))


@dataclass(frozen=True, slots=True)
class ChiSquared:
    """`p_value` and `statistic` are NaN if fewer than two categories are left to compare."""

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
    """Return P(χ² with `freedom` degrees > `statistic`): the regularized upper incomplete gamma
    function (Abramowitz and Stegun 6.5.29 as a series, 6.5.31 as a continued fraction)."""
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
