"""Constraints against what was seen: the violations, and the figures that stand behind each.

Types and texts are those of AWS's analyzer where a file of it was published; each check says
where not. Source: developer guide, model-monitor-interpreting-violations.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor import distance
from sagemaker_byoc.monitor.columns import Column, Kind
from sagemaker_byoc.monitor.constraints import CategoryMethod, Constraint, Constraints, Method
from sagemaker_byoc.monitor.layout import Layout
from sagemaker_byoc.monitor.profile import Profile
from sagemaker_byoc.monitor.statistics import Feature, Statistics

FILE = "constraint_violations.json"


@dataclass(frozen=True, slots=True)
class Violation:
    feature: str
    check: str
    description: str

    def document(self) -> dict[str, Json]:
        return {
            "feature_name": self.feature,
            "constraint_check_type": self.check,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Drift:
    """One comparison, whether it fired or not. NaN where a figure has no meaning."""

    method: str
    distance: float
    """What is held against `threshold`: L∞, less the allowance if Robust; or the p-value of χ²."""
    threshold: float
    gap: float
    """L∞ as it is."""
    allowance: float
    baseline_rows: int
    rows: int
    where: str = ""
    """Where the two differ most: a value, or a category."""
    baseline_share: float = math.nan
    """Of the values at or below `where`, or in that category."""
    share: float = math.nan
    note: str = ""

    @property
    def fired(self) -> bool:
        if self.method == CategoryMethod.CHI_SQUARED:
            return self.distance < self.threshold
        return self.distance > self.threshold


@dataclass(slots=True)
class Findings:
    """`notes` are what the analyzer has no violation for, by feature."""

    violations: list[Violation] = field(default_factory=list)
    drifts: dict[str, Drift] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def note(self, feature: str, text: str) -> None:
        self.notes.setdefault(feature, []).append(text)

    def document(self) -> dict[str, Json]:
        return {"violations": [each.document() for each in self.violations]}


def check(
    profile: Profile, layout: Layout, constraints: Constraints, baseline: Statistics | None
) -> Findings:
    """`baseline` is None where there are only constraints: then nothing drifts."""
    findings = Findings()
    if not constraints.config.evaluates:
        return findings
    _check_columns(profile, layout, constraints, findings)
    gone = set(profile.missing)
    if not profile.rows:
        return findings
    for name, constraint in constraints.features.items():
        if name in gone or not constraint.config.evaluates:
            continue
        column = profile.columns[name]
        _check_completeness(column, constraint, findings)
        _check_type(column, constraint, findings)
        _check_domain(column, constraint, findings)
        before = baseline.features.get(name) if baseline is not None else None
        if before is not None and constraint.config.compares:
            _check_drift(column, before, constraint, findings)
    return findings


def _check_columns(
    profile: Profile, layout: Layout, constraints: Constraints, findings: Findings
) -> None:
    """The text is as quoted in users' reports; the two feature names are from memory."""
    expected = len(constraints.features)
    counts: dict[str, int] = {}
    for columns, rows in layout.misfits.items():
        word = "missing" if columns < expected else "extra"
        counts.setdefault(word, columns)
        findings.note(
            f"{word.capitalize()} columns",
            f"{rows} rows have {columns} columns without names, and the baseline {expected}: "
            "which is which can't be told, so nothing else of them was checked",
        )
    if profile.rows:
        seen = len(profile.seen)
        for word, names in (("missing", profile.missing), ("extra", profile.extra)):
            if names:
                counts[word] = seen
                findings.note(f"{word.capitalize()} columns", ", ".join(names[:50]))
    for word, columns in counts.items():
        findings.violations.append(
            Violation(
                f"{word.capitalize()} columns",
                f"{word}_column_check",
                f"There are {word} columns in current dataset. Number of columns in current "
                f"dataset: {columns}, Number of columns in baseline constraints: {expected}",
            )
        )


def _requirement(column: Column, kind: str, value: float) -> Violation:
    """With the blank at the end, as in the SDK's own sample file."""
    text = f"Value: {value!r} does not meet the constraint requirement! "
    return Violation(column.name, kind, text)


def _check_completeness(column: Column, constraint: Constraint, findings: Findings) -> None:
    if constraint.completeness is not None and column.completeness < constraint.completeness:
        findings.violations.append(_requirement(column, "completeness_check", column.completeness))


def _check_type(column: Column, constraint: Constraint, findings: Findings) -> None:
    """A whole number is a Fractional too: many clients send 6.0 as 6. Any text is a String."""
    if not constraint.kind.is_numeric or not column.present:
        return
    fit = column.integral + (column.fractional if constraint.kind is Kind.FRACTIONAL else 0)
    share = fit / column.present
    if share < constraint.config.type_share:
        expected = 100 * constraint.config.type_share
        findings.violations.append(
            Violation(
                column.name,
                "data_type_check",
                f"Data type match requirement is not met. Expected data type: {constraint.kind}, "
                f"Expected match: {expected}%. Observed: Only {share * 100}% of data is "
                f"{constraint.kind}.",
            )
        )
        if column.examples:
            shown = ", ".join(map(repr, column.examples))
            findings.note(column.name, f"no number: {shown}")
    if constraint.is_non_negative and column.moments.count and column.moments.least < 0:
        findings.note(
            column.name, f"negative now (least {column.moments.least:g}), and never in the baseline"
        )


def _check_domain(column: Column, constraint: Constraint, findings: Findings) -> None:
    counts = column.categories.counts
    if not constraint.domain or constraint.kind is not Kind.STRING or not column.present:
        return
    known = sum(count for value, count in counts.items() if value in constraint.domain)
    share = known / column.present
    if share < constraint.config.domain_share:
        findings.violations.append(_requirement(column, "categorical_values_check", share))
        new = [value for value, _ in counts.most_common() if value not in constraint.domain]
        if new:
            findings.note(column.name, f"new: {', '.join(map(repr, new[:10]))}")


def _check_drift(
    column: Column, before: Feature, constraint: Constraint, findings: Findings
) -> None:
    if constraint.kind is Kind.STRING:
        drift = _category_drift(column.categories.counts, before.categories, constraint)
    else:
        drift = _numeric_drift(column, before, constraint)
    if drift is None:
        return
    findings.drifts[column.name] = drift
    if drift.fired:
        findings.violations.append(
            Violation(column.name, "baseline_drift_check", _drift_text(drift))
        )


def _drift_text(drift: Drift) -> str:
    """No file of AWS's with a ChiSquared drift was at hand; the second text is ours."""
    if drift.method == CategoryMethod.CHI_SQUARED:
        return f"Baseline drift p-value: {drift.distance!r} is below threshold: {drift.threshold}"
    return f"Baseline drift distance: {drift.distance!r} exceeds threshold: {drift.threshold}"


def _numeric_drift(column: Column, before: Feature, constraint: Constraint) -> Drift | None:
    if before.sample is None or not column.moments.count:
        return None
    now = column.sketch.sample()
    gap = distance.numeric_gap(before.sample, now)
    n, m = before.sample.count, now.count
    method = constraint.config.method
    allowed = distance.allowance(n, m) if method is Method.ROBUST else 0.0
    return Drift(
        method=method.value,
        distance=max(0.0, gap.size - allowed),
        threshold=constraint.config.threshold,
        gap=gap.size,
        allowance=allowed,
        baseline_rows=int(n),
        rows=int(m),
        where=f"{gap.at:g}",
        baseline_share=gap.below_in_first,
        share=gap.below_in_second,
    )


def _category_drift(
    now: Mapping[str, int], before: Mapping[str, int], constraint: Constraint
) -> Drift | None:
    n, m = sum(before.values()), sum(now.values())
    if not n or not m:
        return None
    gap, where = distance.category_gap(before, now)
    config = constraint.config
    allowed, value, method, note = 0.0, gap, config.method.value, ""
    if config.category_method is CategoryMethod.CHI_SQUARED:
        result = distance.chi_squared(now, before)
        value, method = result.p_value, config.category_method.value
        note = f"χ² {result.statistic:.4g} over {result.categories} categories"
        note += f", {result.merged} rare ones merged" if result.merged else ""
    elif config.method is Method.ROBUST:
        allowed = distance.allowance(n, m)
        value = max(0.0, gap - allowed)
    return Drift(
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
