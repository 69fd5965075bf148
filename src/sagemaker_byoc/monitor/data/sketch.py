"""A quantile sketch (KLL) of one numeric column, in the form that statistics.json keeps.

A value on level h stands for 2^h values. Up to about `k` values the sketch is the sample itself, so
that distances of small windows are exact; above, ranks are off by about 1/k of the whole (measured
in tests). Deequ gives its lowest level the most room; this one its highest, as in the paper
(Karnin, Lang, Liberty 2016), which is far closer for the same size. Readers can't tell them apart.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
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
        """The share of the whole that is at or below each of `at`."""
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
        """Finite values only."""
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
        """Raises ValueError, TypeError for what is no list of lists of finite numbers."""
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
