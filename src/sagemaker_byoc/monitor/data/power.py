"""What a drift test can see at given sample sizes: how often it fires for no shift, and for some.

The test is run many times on counts drawn for two normal distributions in bins of equal baseline
share, which takes as long for a hundred rows as for ten million.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from sagemaker_byoc.monitor.data.constraints import Method
from sagemaker_byoc.monitor.data.distance import allowance
from sagemaker_byoc.monitor.data.sketch import Values

SHIFTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
"""In standard deviations of the baseline."""
_BINS = 256
_TRIALS = 200
_MOST_ROWS = 10**12


@dataclass(frozen=True, slots=True)
class Power:
    """Chances by shift, each from 200 trials; `limit` is the least L∞ that counts as drift."""

    baseline_rows: int
    rows: int
    limit: float
    chances: tuple[tuple[float, float], ...]

    @property
    def least_found(self) -> float | None:
        """The least of SHIFTS that is found 95 times in 100."""
        return next((shift for shift, chance in self.chances if shift and chance >= 0.95), None)


@lru_cache(maxsize=1024)
def power(baseline_rows: int, rows: int, method: Method, threshold: float) -> Power:
    n, m = (max(1, min(count, _MOST_ROWS)) for count in (baseline_rows, rows))
    limit = threshold + (allowance(n, m) if method is Method.ROBUST else 0.0)
    random = np.random.default_rng(0)
    baselines = random.multinomial(n, np.full(_BINS, 1 / _BINS), size=_TRIALS)
    expected = np.cumsum(baselines, axis=1) / n
    found = []
    for shift in SHIFTS:
        counts = random.multinomial(m, _shares(shift), size=_TRIALS)
        gaps = np.abs(expected - np.cumsum(counts, axis=1) / m).max(axis=1)
        found.append((shift, float((gaps > limit).mean())))
    return Power(baseline_rows, rows, limit, tuple(found))


def _shares(shift: float) -> Values:
    """Of a moved bell in the bins."""
    normal = NormalDist()
    edges = [normal.inv_cdf(place / _BINS) for place in range(1, _BINS)]
    return np.diff([0.0, *(normal.cdf(edge - shift) for edge in edges), 1.0])
