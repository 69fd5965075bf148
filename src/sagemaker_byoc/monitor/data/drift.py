"""Two distributions of a column beside each other: the baseline's, and that of now."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from functools import lru_cache
from statistics import NormalDist

import numpy as np

from sagemaker_byoc.monitor.data import distributions
from sagemaker_byoc.monitor.data.columns import MOSTLY, Column, shown, singles_share
from sagemaker_byoc.monitor.data.constraints import CategoryMethod, Constraint, Method
from sagemaker_byoc.monitor.data.distributions import Sample, Values, allowance
from sagemaker_byoc.monitor.data.statistics import Feature


class Of(StrEnum):
    """What of a column is compared."""

    NUMBERS = "numbers"
    CATEGORIES = "categories"
    NUMBER_SHARE = "share of numbers"
    """For a column of text that is mostly numbers."""
    UNSEEN = "values that the baseline lacks"
    LENGTHS = "lengths"
    """Characters of texts that are too many to count."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One comparison of two distributions, whether it fired or not. NaN for figures it lacks."""

    of: Of
    method: str
    distance: float
    """Compared with `threshold`: L∞, less the allowance if Robust; or the p-value of χ²."""
    threshold: float
    gap: float
    """L∞ as it is."""
    allowance: float
    baseline_rows: int
    rows: int
    where: str = ""
    """Where the two differ most: a value, or a category."""
    baseline_share: float = math.nan
    """The share of the values at or below `where`, or in that category."""
    share: float = math.nan
    note: str = ""

    @property
    def fired(self) -> bool:
        if self.method == CategoryMethod.CHI_SQUARED:
            return self.distance < self.threshold
        return self.distance > self.threshold

    @property
    def can_fire(self) -> bool:
        """Whether any difference could fire: L∞ is at most 1, and few values get an allowance."""
        if self.method == CategoryMethod.CHI_SQUARED:
            return not math.isnan(self.distance)
        return self.threshold + self.allowance < 1

    @property
    def strength(self) -> tuple[bool, float]:
        """The order in which the comparisons of one column are reported."""
        is_chi = self.method == CategoryMethod.CHI_SQUARED
        return self.fired, -self.distance if is_chi else self.distance - self.threshold


def drift_text(drift: Drift) -> str:
    """Return AWS's text; that of ChiSquared is this project's, as no file of AWS's has one."""
    if drift.method == CategoryMethod.CHI_SQUARED:
        return f"Baseline drift p-value: {drift.distance!r} is below threshold: {drift.threshold}"
    return f"Baseline drift distance: {drift.distance!r} exceeds threshold: {drift.threshold}"


def drift_detail(drift: Drift) -> str:
    if drift.method == CategoryMethod.CHI_SQUARED:
        return f"p-value {shown(drift.distance)} is below {drift.threshold:g}"
    return f"distance {shown(drift.distance)} is above {drift.threshold:g}"


def compared(column: Column, before: Feature, constraint: Constraint) -> list[Drift]:
    """Return every comparison that both sides have figures for."""
    if constraint.kind.is_numeric or before.is_mixed:
        found = [_numeric_drift(Of.NUMBERS, before.sample, _numbers(column), constraint)]
        if before.is_mixed:
            found.append(_number_share_drift(column, before, constraint))
    else:
        now = column.categories.counts
        found = [_category_drift(now, before.categories, constraint)]
        if not constraint.domain:
            found.append(_unseen_drift(column, before, constraint))
        lengths = column.lengths.sample() if column.lengths.count else None
        found.append(_numeric_drift(Of.LENGTHS, before.lengths, lengths, constraint))
    return [each for each in found if each is not None]


def _numbers(column: Column) -> Sample | None:
    return column.sketch.sample() if column.moments.count else None


def _numeric_drift(
    of: Of, before: Sample | None, now: Sample | None, constraint: Constraint
) -> Drift | None:
    if before is None or now is None:
        return None
    gap = distributions.numeric_gap(before, now)
    n, m = before.count, now.count
    allowed = _allowance(n, m, constraint)
    return Drift(
        of=of,
        method=constraint.config.method.value,
        distance=max(0.0, gap.size - allowed),
        threshold=constraint.config.threshold,
        gap=gap.size,
        allowance=allowed,
        baseline_rows=int(n),
        rows=int(m),
        where=shown(gap.at),
        baseline_share=gap.below_in_first,
        share=gap.below_in_second,
    )


def _allowance(n: float, m: float, constraint: Constraint) -> float:
    return distributions.allowance(n, m) if constraint.config.method is Method.ROBUST else 0.0


def _number_share_drift(column: Column, before: Feature, constraint: Constraint) -> Drift:
    """Compare the share of the values that are numbers, which a flood of `nan` moves."""
    share, now = before.numbers / before.present, column.numbers / column.present
    examples = ", ".join(map(repr, column.examples))
    rows = before.present, column.present
    drift = _share_drift(Of.NUMBER_SHARE, (share, now), rows, constraint)
    return replace(drift, where=examples and f"others: {examples}")


def _unseen_drift(column: Column, before: Feature, constraint: Constraint) -> Drift | None:
    """Compare the share of values that the baseline lacks with the share to be expected.

    Of too many values those are taken whose hashes both sides have kept: whether a value is among
    them does not depend on how often it comes.
    """
    if constraint.config.category_method is CategoryMethod.CHI_SQUARED:
        return None
    then, now = _counts(column, before)
    n, total, expected = sum(then.values()), sum(now.values()), singles_share(then.values())
    if not n or not total or expected > MOSTLY:
        return None
    new = {name: count for name, count in now.items() if name not in then}
    share = sum(new.values()) / total
    drift = _share_drift(Of.UNSEEN, (expected, share), (n, total), constraint)
    gap = max(0.0, share - expected)
    return replace(
        drift,
        threshold=constraint.config.category_threshold,
        gap=gap,
        distance=max(0.0, gap - drift.allowance),
        where=max(new, key=new.__getitem__, default="") if before.categories else "",
    )


def _counts(column: Column, before: Feature) -> tuple[Mapping[str, int], Mapping[str, int]]:
    """Return the counts of both sides, by value or by hash, of the same choice of values."""
    if before.categories or not before.hashes:
        return before.categories, column.categories.counts
    now = column.categories.sample()
    limit = max(before.hashes)
    if not column.categories.are_counted:
        limit = min(limit, max(now))
    then = {str(each): count for each, count in before.hashes.items() if each <= limit}
    return then, {str(each): count for each, count in now.items() if each <= limit}


def _share_drift(
    of: Of, shares: tuple[float, float], rows: tuple[int, int], constraint: Constraint
) -> Drift:
    """`shares` and `rows` of the baseline, and of now."""
    allowed, gap = _allowance(*rows, constraint), abs(shares[0] - shares[1])
    return Drift(
        of=of,
        method=constraint.config.method.value,
        distance=max(0.0, gap - allowed),
        threshold=constraint.config.threshold,
        gap=gap,
        allowance=allowed,
        baseline_rows=rows[0],
        rows=rows[1],
        baseline_share=shares[0],
        share=shares[1],
    )


def _category_drift(
    now: Mapping[str, int], before: Mapping[str, int], constraint: Constraint
) -> Drift | None:
    n, m = sum(before.values()), sum(now.values())
    if not n or not m:
        return None
    gap, where = distributions.category_gap(before, now)
    config = constraint.config
    allowed, value, method, note = 0.0, gap, config.method.value, ""
    if config.category_method is CategoryMethod.CHI_SQUARED:
        result = distributions.chi_squared(now, before)
        value, method = result.p_value, config.category_method.value
        note = f"χ² {result.statistic:.4g} over {result.categories} categories"
        note += f", {result.merged} rare ones merged" if result.merged else ""
    elif config.method is Method.ROBUST:
        allowed = distributions.allowance(n, m)
        value = max(0.0, gap - allowed)
    return Drift(
        of=Of.CATEGORIES,
        method=method,
        distance=value,
        threshold=config.category_threshold,
        gap=gap,
        allowance=allowed,
        baseline_rows=n,
        rows=m,
        where=where,
        baseline_share=before.get(where, 0) / n,
        share=now.get(where, 0) / m,
        note=note,
    )


# ── what a test can see ──


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
    """Return the shares of a shifted normal distribution in the bins."""
    normal = NormalDist()
    edges = [normal.inv_cdf(place / _BINS) for place in range(1, _BINS)]
    return np.diff([0.0, *(normal.cdf(edge - shift) for edge in edges), 1.0])
