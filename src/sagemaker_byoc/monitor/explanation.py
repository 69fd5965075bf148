"""explanation.json: why a run found what it found, and what it could have found. A file of ours.

`byoc monitor explain` and the page are made from it and from AWS's files beside it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.checks import Drift, Findings
from sagemaker_byoc.monitor.constraints import Constraints, Method
from sagemaker_byoc.monitor.power import Power, power
from sagemaker_byoc.monitor.profile import Profile
from sagemaker_byoc.monitor.statistics import Feature, Statistics
from sagemaker_byoc.monitor.streams import Unread

FILE = "explanation.json"


def document(
    profile: Profile,
    constraints: Constraints,
    baseline: Statistics | None,
    findings: Findings,
    unread: Unread,
) -> dict[str, Json]:
    features: list[Json] = []
    for name, column in profile.columns.items():
        constraint = constraints.features.get(name)
        before = baseline.features.get(name) if baseline is not None else None
        drift = findings.drifts.get(name)
        features.append(
            {
                "name": name,
                "inferred_type": (constraint.kind if constraint else column.inferred).value,
                "violations": [each.check for each in findings.violations if each.feature == name],
                "notes": [*findings.notes.get(name, ())],
                "drift": _drift(drift) if drift else None,
                "current": _figures(Feature.of(column, constraint.kind if constraint else None)),
                "baseline": _figures(before) if before else None,
            }
        )
    return {
        "version": 1,
        "rows": profile.rows,
        "baseline_rows": baseline.rows if baseline else 0,
        "unread": unread_document(unread),
        "violations": [each.document() for each in findings.violations],
        "notes": {name: [*texts] for name, texts in findings.notes.items()},
        "features": features,
        "power": [_power(*key) for key in _tests(findings.drifts.values())],
    }


def unread_document(unread: Unread) -> dict[str, Json]:
    return {
        "lines": unread.lines,
        "unread": unread.count,
        "reasons": [
            {"reason": reason, "lines": count, "first": unread.first[reason]}
            for reason, count in unread.reasons.most_common()
        ],
        "outside": unread.outside,
        "notices": [{"what": what, "count": count} for what, count in unread.notices.most_common()],
    }


def _tests(drifts: Iterable[Drift]) -> list[tuple[int, int, Method, float]]:
    """The different tests of columns, each for that with the fewest values; most runs have one."""
    found: dict[tuple[str, float], tuple[int, int]] = {}
    for each in drifts:
        if each.method in (Method.SIMPLE, Method.ROBUST):
            key, sizes = (each.method, each.threshold), (each.rows, each.baseline_rows)
            found[key] = min(sizes, found.get(key, sizes))
    return [
        (before, rows, Method(method), threshold)
        for (method, threshold), (rows, before) in sorted(found.items())[:20]
    ]


def _power(baseline_rows: int, rows: int, method: Method, threshold: float) -> dict[str, Json]:
    found: Power = power(baseline_rows, rows, method, threshold)
    return {
        "baseline_rows": baseline_rows,
        "rows": rows,
        "method": method.value,
        "threshold": threshold,
        "least_gap": found.limit,
        "found_by_shift": [[shift, chance] for shift, chance in found.chances],
        "least_shift_found": found.least_found,
    }


def _drift(drift: Drift) -> dict[str, Json]:
    found: dict[str, Json] = {
        key: _finite(value) if isinstance(value, float) else value
        for key, value in asdict(drift).items()
    }
    return found | {"fired": drift.fired}


def _figures(feature: Feature) -> dict[str, Json]:
    return {
        "present": feature.present,
        "missing": feature.missing,
        "completeness": feature.completeness,
        "mean": _finite(feature.mean),
        "std_dev": _finite(feature.deviation),
        "min": _finite(feature.least),
        "max": _finite(feature.most),
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


# ── in words ──


def words(found: Mapping[str, Any]) -> list[str]:
    """Lines for a person; `found` is the document above."""
    violations = found["violations"]
    head = f"{found['rows']:,} rows against a baseline of {found['baseline_rows']:,}: "
    head += f"violations: {len(violations)}" if violations else "no violation"
    lines = [head]
    lines += unread_words(found["unread"])
    lines += _feature_words(found)
    lines += [line for each in found["power"] for line in power_words(each)]
    return lines


def unread_words(unread: Mapping[str, Any]) -> list[str]:
    """How many lines were lost and why, and what was read otherwise than it stands there."""
    notices = [f"{each['count']:,} {each['what']}" for each in unread.get("notices", ())]
    if not unread["unread"]:
        return notices
    lines = [*notices, f"{unread['unread']:,} of {unread['lines']:,} lines could not be used:"]
    return lines + [
        f"  {each['lines']:,} {each['reason']} (first: {each['first']})"
        for each in unread["reasons"]
    ]


def _feature_words(found: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    by_name = {each["name"]: each for each in found["features"]}
    names = dict.fromkeys(each["feature_name"] for each in found["violations"])
    for name in (*names, *(name for name in found["notes"] if name not in names)):
        lines += ["", name]
        lines += [
            f"  {each['constraint_check_type']}: {each['description'].strip()}"
            for each in found["violations"]
            if each["feature_name"] == name
        ]
        lines += [f"  {text}" for text in found["notes"].get(name, ())]
        feature = by_name.get(name)
        if feature is not None:
            lines += [f"  {text}" for text in drift_words(feature)]
    return lines


def drift_words(feature: Mapping[str, Any]) -> list[str]:
    """Why a column drifted, or did not."""
    drift = feature["drift"]
    if drift is None:
        return []
    is_number = feature["inferred_type"] in ("Integral", "Fractional")
    at = f"at or below {drift['where']}" if is_number else f"{drift['where']!r}"
    before, now = _percent(drift["baseline_share"]), _percent(drift["share"])
    lines = [f"widest gap: {before} of the baseline is {at}, {now} now"]
    if drift["allowance"]:
        lines.append(
            f"{drift['method']}: {drift['gap']:.4f} less {drift['allowance']:.4f} for "
            f"{drift['baseline_rows']:,} and {drift['rows']:,} rows is {drift['distance']:.4f}, "
            f"{'above' if drift['fired'] else 'not above'} {drift['threshold']:g}"
        )
    if drift["note"]:
        lines.append(f"{drift['method']}: {drift['note']}")
    lines += _moved(feature)
    return lines


def _moved(feature: Mapping[str, Any]) -> list[str]:
    before, now = feature["baseline"], feature["current"]
    if before is None or before["mean"] is None or now["mean"] is None:
        return []
    text = f"mean {before['mean']:.4g} → {now['mean']:.4g}"
    if before["std_dev"]:
        text += f" ({(now['mean'] - before['mean']) / before['std_dev']:+.2f} sd)"
    if now["std_dev"] is not None and before["std_dev"] is not None:
        text += f", standard deviation {before['std_dev']:.4g} → {now['std_dev']:.4g}"
    return [text]


def power_words(found: Mapping[str, Any]) -> list[str]:
    chances = ", ".join(
        f"{shift:g} sd {_percent(chance)}" for shift, chance in found["found_by_shift"] if shift
    )
    false = next(chance for shift, chance in found["found_by_shift"] if not shift)
    head = (
        f"What {found['method']} at {found['threshold']:g} can see with "
        f"{found['baseline_rows']:,} baseline rows and {found['rows']:,} rows "
        "(a bell-shaped column whose mean moves):"
    )
    return ["", head, f"  a false alarm for {_percent(false)} of the columns; found: {chances}"]


def _percent(share: float | None) -> str:
    if share is None:
        return "?"
    return f"{100 * share:.1f} %" if 0.001 <= share <= 0.999 else f"{100 * share:.3g} %"
