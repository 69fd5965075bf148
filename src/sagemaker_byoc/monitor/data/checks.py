"""Constraints compared with the data: violations, the figures behind them, what was left out.

Types and texts are those of AWS's analyzer if a file of it was published; each check says if not.
Source: developer guide, model-monitor-interpreting-violations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.data import distributions
from sagemaker_byoc.monitor.data.columns import (
    MOST_CATEGORIES,
    MOSTLY,
    Column,
    Kind,
    are_numbers_of_another_spelling,
    percent,
    shown,
    singles_share,
)
from sagemaker_byoc.monitor.data.constraints import CategoryMethod, Config, Constraint, Constraints
from sagemaker_byoc.monitor.data.drift import Drift, Of, compared, drift_detail, drift_text
from sagemaker_byoc.monitor.data.statistics import Feature, Profile, Statistics
from sagemaker_byoc.monitor.inputs.layout import Layout

FILE = "constraint_violations.json"


COMPLETENESS, TYPE = "completeness_check", "data_type_check"
CATEGORIES, DRIFT = "categorical_values_check", "baseline_drift_check"


@dataclass(frozen=True, slots=True)
class Violation:
    """`description` is AWS's text, with every digit; `detail` says the same to a person."""

    feature: str
    check: str
    description: str
    detail: str = ""

    def document(self) -> dict[str, Json]:
        return {
            "feature_name": self.feature,
            "constraint_check_type": self.check,
            "description": self.description,
        }


@dataclass(frozen=True, slots=True)
class Check:
    """One check of one column: made (`reason` is empty), or not, and why not."""

    name: str
    reason: str = ""
    value: float | None = None
    threshold: float | None = None


@dataclass(slots=True)
class Findings:
    """All by feature; `notes` are what the analyzer has no violation for."""

    violations: list[Violation] = field(default_factory=list)
    drifts: dict[str, Drift] = field(default_factory=dict)
    """The strongest comparison of each column; `others` has the rest."""
    others: dict[str, list[Drift]] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)
    checks: dict[str, list[Check]] = field(default_factory=dict)

    def note(self, feature: str, text: str) -> None:
        self.notes.setdefault(feature, []).append(text)

    def made(self, feature: str, check: str, value: float, threshold: float) -> None:
        self.checks.setdefault(feature, []).append(Check(check, "", value, threshold))

    def skipped(self, feature: str, check: str, reason: str) -> None:
        self.checks.setdefault(feature, []).append(Check(check, reason))

    @property
    def not_compared(self) -> dict[str, str]:
        """Columns whose distribution was not compared with the baseline, and why not."""
        return {
            name: each.reason
            for name, found in self.checks.items()
            for each in found
            if each.name == DRIFT and each.reason
        }

    def document(self) -> dict[str, Json]:
        return {"violations": [each.document() for each in self.violations]}


def check(
    profile: Profile, layout: Layout, constraints: Constraints, baseline: Statistics | None
) -> Findings:
    """Check every column of both sides; each gets a drift check: made, or skipped for a reason."""
    findings = Findings()
    if not constraints.config.evaluates:
        for name in constraints.features:
            findings.skipped(name, DRIFT, _OFF)
        return findings
    _check_columns(profile, layout, constraints, findings)
    gone = set(profile.missing)
    for name, constraint in constraints.features.items():
        if not profile.rows:
            findings.skipped(name, DRIFT, "no row of this run has the baseline's columns")
        elif name in gone:
            findings.skipped(name, DRIFT, "the column is missing in this run")
        elif not constraint.config.evaluates:
            findings.skipped(name, DRIFT, _OFF)
        else:
            _check_column(profile.columns[name], constraint, baseline, findings)
    for name in profile.extra:
        findings.skipped(name, DRIFT, "the baseline has no such column")
    return findings


def _check_column(
    column: Column, constraint: Constraint, baseline: Statistics | None, findings: Findings
) -> None:
    _check_completeness(column, constraint, findings)
    _check_type(column, constraint, findings)
    _check_domain(column, constraint, findings)
    before = baseline.features.get(column.name) if baseline is not None else None
    reason = _not_comparable(column, before, constraint)
    drifts = [] if reason or before is None else compared(column, before, constraint)
    possible = sorted(filter(_can_fire, drifts), key=_strength, reverse=True)
    reason = reason or _reason(before, drifts, possible)
    if reason:
        findings.skipped(column.name, DRIFT, reason)
    else:
        findings.made(column.name, DRIFT, possible[0].distance, possible[0].threshold)
    if possible:
        _report(column.name, possible, findings)


def _report(name: str, drifts: list[Drift], findings: Findings) -> None:
    """Add one violation for a column, however many of its comparisons fired."""
    strongest, *others = drifts
    findings.drifts[name] = strongest
    if others:
        findings.others[name] = others
    if strongest.fired:
        detail = f"{strongest.of}: {drift_detail(strongest)}"
        findings.violations.append(Violation(name, DRIFT, drift_text(strongest), detail))


_can_fire, _strength = attrgetter("can_fire"), attrgetter("strength")
_MANY = 10**12
_OFF = "evaluate_constraints is Disabled"


def _not_comparable(column: Column, before: Feature | None, constraint: Constraint) -> str:
    """Return why no distribution can be compared; empty if one can."""
    if not constraint.config.compares:
        return "perform_comparison is Disabled"
    if before is None:
        return "the baseline has no statistics of it"
    if not before.present or not column.present:
        return "every cell is empty now" if before.present else "the baseline has no value of it"
    if constraint.kind.is_numeric and before.sample is None:
        return "the baseline's statistics have no numbers of it"
    if constraint.kind.is_numeric and not column.numbers:
        return f"none of {column.present:,} values is a number now"
    return ""


def _reason(before: Feature | None, drifts: Sequence[Drift], possible: Sequence[Drift]) -> str:
    """Return why the comparisons that were made do not count as one; empty if they do."""
    if before is None or not drifts:
        return f"the baseline counts no values (more than {MOST_CATEGORIES:,} different ones)"
    if not possible:
        return _too_weak(drifts[0])
    is_text = before.kind is Kind.STRING and not before.is_mixed
    return _text_reason(before, drifts, possible) if is_text else ""


def _text_reason(before: Feature, drifts: Sequence[Drift], possible: Sequence[Drift]) -> str:
    shares = next((each for each in drifts if each.of is Of.CATEGORIES), None)
    if shares is None:
        also = " and new values" if any(each.of is Of.UNSEEN for each in possible) else ""
        return f"more than {MOST_CATEGORIES:,} different values: only lengths{also} were compared"
    if not shares.can_fire:
        return _too_weak(shares)
    if singles_share(before.categories.values()) > MOSTLY:
        return "most values of the baseline came once: their shares say nothing"
    return ""


def _too_weak(drift: Drift) -> str:
    if drift.method == CategoryMethod.CHI_SQUARED:
        return "fewer than two categories are left for a χ² test"
    if drift.threshold >= 1:
        return f"no distance is above the threshold {drift.threshold:g}"
    return (
        f"too few values ({drift.baseline_rows:,} in the baseline, {drift.rows:,} now): no "
        f"difference would be above {drift.threshold:g}"
    )


def forecast(column: Column) -> str:
    """Return what a run will not be able to compare of a baseline's column; empty if all of it."""
    if not column.present:
        return "every cell is empty: there is nothing to compare"
    if column.inferred is Kind.STRING and not column.is_mostly_numbers:
        reason = _text_forecast(column)
        if reason:
            return reason
    if Config().threshold + distributions.allowance(column.present, _MANY) >= 1:
        return f"too few values ({column.present:,}): no difference would count as drift"
    if column.is_mostly_numbers:
        others = ", ".join(map(repr, column.examples))
        return (
            f"not a number: {column.present - column.numbers:,} of {column.present:,} values "
            f"({others}), which makes its type String; its numbers are compared, its type is not"
        )
    return ""


def _text_forecast(column: Column) -> str:
    if are_numbers_of_another_spelling(column.categories.counts or column.examples):
        some = ", ".join(map(repr, column.examples))
        return f"numbers in a spelling that counts as text ({some}): compared as text alone"
    if not column.categories.are_counted:
        also = " and new values" if column.categories.singles_share <= MOSTLY else ""
        return f"more than {MOST_CATEGORIES:,} different values: only lengths{also} can be compared"
    return "most values came once: only lengths can be compared" if column.is_mostly_unique else ""


def _check_columns(
    profile: Profile, layout: Layout, constraints: Constraints, findings: Findings
) -> None:
    """Compare the columns. The text is quoted from users' reports; the feature names are not."""
    expected = len(constraints.features)
    counts: dict[str, int] = {}
    for columns, rows in layout.misfits.items():
        word = "missing" if columns < expected else "extra"
        counts.setdefault(word, columns)
        findings.note(
            f"{word.capitalize()} columns",
            f"{rows} rows have {columns} columns without names, and the baseline {expected}: "
            "which is which is not known, so nothing else of them was checked",
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


def _requirement(column: Column, kind: str, value: float, detail: str) -> Violation:
    """Return a violation with the blank at the end, as in the SDK's sample file."""
    text = f"Value: {value!r} does not meet the constraint requirement! "
    return Violation(column.name, kind, text, detail)


def _check_completeness(column: Column, constraint: Constraint, findings: Findings) -> None:
    if constraint.completeness is None:
        findings.skipped(column.name, COMPLETENESS, "the constraints have no completeness")
        return
    findings.made(column.name, COMPLETENESS, column.completeness, constraint.completeness)
    if column.completeness < constraint.completeness:
        detail = (
            f"{column.missing:,} of {column.missing + column.present:,} cells are empty: "
            f"{percent(column.completeness)} are filled, and {percent(constraint.completeness)} "
            "have to be"
        )
        findings.violations.append(_requirement(column, COMPLETENESS, column.completeness, detail))


def _check_type(column: Column, constraint: Constraint, findings: Findings) -> None:
    """A whole number is a Fractional too: many clients send 6.0 as 6. Any text is a String."""
    if not constraint.kind.is_numeric or not column.present:
        reason = "any value is text" if column.present else "there is no value"
        findings.skipped(column.name, TYPE, reason)
        return
    fit = column.integral + (column.fractional if constraint.kind is Kind.FRACTIONAL else 0)
    share = fit / column.present
    findings.made(column.name, TYPE, share, constraint.config.type_share)
    if share < constraint.config.type_share:
        expected = 100 * constraint.config.type_share
        findings.violations.append(
            Violation(
                column.name,
                TYPE,
                f"Data type match requirement is not met. Expected data type: {constraint.kind}, "
                f"Expected match: {expected}%. Observed: Only {share * 100}% of data is "
                f"{constraint.kind}.",
                f"{column.present - fit:,} of {column.present:,} values are not {constraint.kind}",
            )
        )
        if column.examples:
            others = ", ".join(map(repr, column.examples))
            findings.note(column.name, f"not a number: {others}")
    if constraint.is_non_negative and column.moments.count and column.moments.least < 0:
        findings.note(
            column.name,
            f"negative now (least {shown(column.moments.least)}), and never in the baseline",
        )


def _check_domain(column: Column, constraint: Constraint, findings: Findings) -> None:
    counts = column.categories.counts
    if not constraint.domain or constraint.kind is not Kind.STRING or not column.present:
        reason = "the constraints have no domain" if column.present else "there is no value"
        findings.skipped(column.name, CATEGORIES, reason)
        return
    known = sum(count for value, count in counts.items() if value in constraint.domain)
    share = known / column.present
    findings.made(column.name, CATEGORIES, share, constraint.config.domain_share)
    if share < constraint.config.domain_share:
        detail = (
            f"{column.present - known:,} of {column.present:,} values are none of the "
            f"baseline's {len(constraint.domain):,}"
        )
        findings.violations.append(_requirement(column, CATEGORIES, share, detail))
        new = [value for value, _ in counts.most_common() if value not in constraint.domain]
        if new:
            findings.note(column.name, f"new: {', '.join(map(repr, new[:10]))}")
