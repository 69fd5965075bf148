"""explanation.json: why a run found what it found, and what it could have found. A file of ours.

`byoc monitor explain` and the page are made from it and from AWS's files beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.hosting.capture import hour_of
from sagemaker_byoc.monitor.data.checks import Check, Findings
from sagemaker_byoc.monitor.data.columns import Column
from sagemaker_byoc.monitor.data.constraints import Constraints, Method
from sagemaker_byoc.monitor.data.drift import Drift, Of, Power, power
from sagemaker_byoc.monitor.data.statistics import (
    LONGEST_ORIGIN,
    ORIGIN,
    Feature,
    Profile,
    Statistics,
)
from sagemaker_byoc.monitor.inputs.streams import Unread, Window
from sagemaker_byoc.monitor.report.words import listed

FILE = "explanation.json"
VERSION = 2


def document(
    profile: Profile,
    constraints: Constraints,
    baseline: Statistics | None,
    findings: Findings,
    unread: Unread,
) -> dict[str, Json]:
    """The caller adds what the report is about (`subject`)."""
    names = dict.fromkeys((*constraints.features, *profile.columns))
    left_out = findings.not_compared
    fired: dict[str, list[Json]] = {}
    for each in findings.violations:
        fired.setdefault(each.feature, []).append(each.check)
    return {
        "version": VERSION,
        "rows": profile.rows,
        "baseline_rows": baseline.rows if baseline else 0,
        "unread": unread_document(unread),
        "columns": len(names),
        "compared": len(names) - len(left_out),
        "not_compared": {**left_out},
        "checks": sum(not each.reason for found in findings.checks.values() for each in found),
        "violations": [each.document() | {"detail": each.detail} for each in findings.violations],
        "notes": {name: [*texts] for name, texts in findings.notes.items()},
        "features": [
            _feature(column, constraints, baseline, findings)
            | {"violations": fired.get(column.name, [])}
            for column in profile.columns.values()
        ],
        "power": [_power(*key, columns=columns) for key, columns in _tests(findings).items()],
    }


def _feature(
    column: Column, constraints: Constraints, baseline: Statistics | None, findings: Findings
) -> dict[str, Json]:
    name = column.name
    constraint = constraints.features.get(name)
    before = baseline.features.get(name) if baseline is not None else None
    drift = findings.drifts.get(name)
    return {
        "name": name,
        "inferred_type": (constraint.kind if constraint else column.inferred).value,
        "notes": [*findings.notes.get(name, ())],
        "checks": [_check(each) for each in findings.checks.get(name, ())],
        "drift": _drift(drift) if drift else None,
        "more_drifts": [_drift(each) for each in findings.others.get(name, ())],
        "current": _figures(Feature.of(column, constraint.kind if constraint else None)),
        "baseline": _figures(before) if before else None,
    }


def _check(check: Check) -> dict[str, Json]:
    if check.reason:
        return {"check": check.name, "compared": False, "reason": check.reason}
    return {
        "check": check.name,
        "compared": True,
        "value": _finite(check.value),
        "threshold": check.threshold,
    }


def subject(
    source: str,
    files: Sequence[str],
    window: Window | None,
    baseline: Mapping[str, Any] | None,
    known: Mapping[str, Json],
) -> dict[str, Json]:
    """Return what a report is about. `baseline` is statistics.json; `known` what the caller knows:
    the baseline's place, the endpoint, the schedule.
    """
    files = [name for name in files if window is None or window.has_file(name)]
    hours = sorted({hour for hour in map(hour_of, files) if hour is not None})
    endpoints = dict.fromkeys(found for name in files if (found := _endpoint(name)))
    about: dict[str, Json] = {
        "source": source,
        "endpoint": known.get("endpoint") or listed([*endpoints], 5),
        "schedule": known.get("schedule", ""),
    }
    if hours:
        first, last = (f"{hour:%Y-%m-%d %H:00} UTC" for hour in (hours[0], hours[-1]))
        about["hours"] = {"first": first, "last": last, "count": len(hours)}
    if window is not None:
        about["window"] = {"start": _moment(window.start), "end": _moment(window.end)}
    origin = (baseline or {}).get(ORIGIN)
    told = {
        key: str(origin[key])[:LONGEST_ORIGIN]
        for key in ("made", "source")
        if isinstance(origin, dict) and origin.get(key)
    }
    about["baseline"] = {"place": known.get("baseline", ""), **told}
    return about


_CAPTURED = re.compile(r"([^/]+/[^/]+)/\d{4}/\d\d/\d\d/\d\d/[^/]+$")
"""endpoint/variant/yyyy/mm/dd/hh/file"""


def _endpoint(name: str) -> str:
    found = _CAPTURED.search(name)
    return found[1] if found else ""


def _moment(time: datetime) -> str:
    """Empty for an end that was not given."""
    is_given = MINYEAR < time.year < MAXYEAR
    return f"{time:%Y-%m-%d %H:%M} UTC" if is_given else ""


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


def _tests(findings: Findings) -> dict[tuple[int, int, Method, float], int]:
    """The different tests of numbers, each for the column with the fewest, and how many there are.

    Most runs have one. What the tests of categories can see depends on how many categories there
    are, and is not told.
    """
    found: dict[tuple[str, float], list[tuple[int, int]]] = {}
    left_out = findings.not_compared
    for name, drift in findings.drifts.items():
        for each in (drift, *findings.others.get(name, ())):
            if each.of is Of.NUMBERS and name not in left_out:
                key = each.method, each.threshold
                found.setdefault(key, []).append((each.rows, each.baseline_rows))
    return {
        (before, rows, Method(method), threshold): len(sizes)
        for (method, threshold), sizes in sorted(found.items())[:20]
        for rows, before in (min(sizes),)
    }


def _power(
    baseline_rows: int, rows: int, method: Method, threshold: float, *, columns: int
) -> dict[str, Json]:
    found: Power = power(baseline_rows, rows, method, threshold)
    return {
        "baseline_rows": baseline_rows,
        "rows": rows,
        "method": method.value,
        "threshold": threshold,
        "columns": columns,
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


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None
