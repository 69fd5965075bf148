"""explanation.json, a file of this project: what a run found and why, and what it could find.

`byoc monitor explain` and the page are made from it and from AWS's files beside it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import MAXYEAR, MINYEAR, datetime
from typing import Any

from sagemaker_byoc.contract.capture import hour_of
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.data.checks import Check, Findings
from sagemaker_byoc.monitor.data.columns import Column, percent, shown
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

FILE = "explanation.json"
VERSION = 2


def document(
    profile: Profile,
    constraints: Constraints,
    baseline: Statistics | None,
    findings: Findings,
    unread: Unread,
) -> dict[str, Json]:
    """Return the document; the caller adds what the report is about (`subject`)."""
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
        "value": finite(check.value),
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
    """Return a time as text; empty for an end that was not given."""
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
    """Return the tests of numbers, each for the column with the fewest, and the columns of each.

    Most runs have one. What the tests of categories can see depends on how many categories there
    are, and is not reported.
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
        key: finite(value) if isinstance(value, float) else value
        for key, value in asdict(drift).items()
    }
    return found | {"fired": drift.fired}


def _figures(feature: Feature) -> dict[str, Json]:
    return {
        "present": feature.present,
        "missing": feature.missing,
        "completeness": feature.completeness,
        "mean": finite(feature.mean),
        "std_dev": finite(feature.deviation),
        "min": finite(feature.least),
        "max": finite(feature.most),
    }


def finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


# ── as text: lines for a terminal and for a page ──


LONGEST_NAME = 60
"""Characters of a name in a list of names."""


def words(found: Mapping[str, Any]) -> list[str]:
    """Return lines for a person; `found` is explanation.json."""
    lines = [
        *about_words(found["about"]),
        f"{found['rows']:,} rows against a baseline of {found['baseline_rows']:,}: "
        + verdict(found),
    ]
    lines += unread_words(found["unread"])
    lines += not_compared_words(found)
    lines += _violation_words(found)
    lines += [line for each in found["power"] for line in power_words(each)]
    return lines


def about_words(about: Mapping[str, Any]) -> list[str]:
    """Return lines on what was read, of which hours, and on the baseline, as far as it is known."""
    hours, baseline = about.get("hours"), about.get("baseline") or {}
    names = (("endpoint", "endpoint"), ("schedule", "schedule"), ("data", "source"))
    lines = [f"{name}: {about[key]}" for name, key in names if about.get(key)]
    if hours:
        more = f" to {hours['last']} ({hours['count']:,} hours)" if hours["count"] > 1 else ""
        lines.append(f"captured: {hours['first']}{more}")
    if about.get("window"):
        start, end = about["window"]["start"], about["window"]["end"]
        lines.append(f"window: {start or 'the first record'} to {end or 'the last'}")
    if baseline.get("place") or baseline.get("source"):
        text = f"baseline: {baseline.get('place') or 'given'}"
        text += f", of {baseline['source']}" if baseline.get("source") else ""
        text += f", made {baseline['made']}" if baseline.get("made") else ""
        lines.append(text)
    return lines


def verdict(found: Mapping[str, Any]) -> str:
    """Return the verdict; "no violation" always names the number of columns compared."""
    violations, columns, compared = found["violations"], found["columns"], found["compared"]
    head = f"violations: {len(violations)}" if violations else "no violation"
    if compared == columns:
        return head if violations else f"{head} in {count(columns, 'column')}"
    if not violations and compared:
        return f"{head} in {compared:,} of {columns:,} columns; {columns - compared:,} not compared"
    return f"{head}; not compared: {columns - compared:,} of {count(columns, 'column')}"


def not_compared_words(found: Mapping[str, Any]) -> list[str]:
    """Return lines on the columns that were left out, by reason."""
    lines = [
        f"  {listed(names)}: {reason}" for reason, names in by_reason(found["not_compared"]).items()
    ]
    return ["", "not compared", *lines] if lines else []


def by_reason(reasons: Mapping[str, str]) -> dict[str, list[str]]:
    """Turn the reason of each name into the names of each reason."""
    found: dict[str, list[str]] = {}
    for name, reason in reasons.items():
        found.setdefault(reason, []).append(name)
    return found


def listed(names: Sequence[str], most: int = 10) -> str:
    """Return the first `most` names in one line, each cut to a length that it has room for."""
    more = len(names) - most
    kept = (
        " ".join(each[:LONGEST_NAME].split()) + "…" * (len(each) > LONGEST_NAME)
        for each in names[:most]
    )
    return ", ".join(kept) + (f" and {more:,} more" if more > 0 else "")


def count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def notice_words(unread: Mapping[str, Any]) -> list[str]:
    return [f"{each['count']:,} {each['what']}" for each in unread.get("notices", ())]


def unread_words(unread: Mapping[str, Any]) -> list[str]:
    """Return lines on what could not be used, and on what was read other than as written."""
    notices = notice_words(unread)
    if not unread["unread"]:
        return notices
    lines = [*notices, f"{unread['unread']:,} of {unread['lines']:,} lines could not be used:"]
    return lines + [
        f"  {each['lines']:,} {each['reason']} (first: {each['first']})"
        for each in unread["reasons"]
    ]


Told = tuple[tuple[str, str], ...]
"""The check and the detail of each violation of a column."""


def groups(found: Mapping[str, Any]) -> list[tuple[list[str], Told]]:
    """Group the columns that have the same violations."""
    told: dict[str, list[tuple[str, str]]] = {}
    for each in found["violations"]:
        text = (each["detail"] or each["description"]).strip()
        told.setdefault(each["feature_name"], []).append((each["constraint_check_type"], text))
    grouped: dict[Told, list[str]] = {}
    for name, texts in told.items():
        grouped.setdefault(tuple(texts), []).append(name)
    return [(names, texts) for texts, names in grouped.items()]


def _violation_words(found: Mapping[str, Any]) -> list[str]:
    lines: list[str] = []
    by_name = {each["name"]: each for each in found["features"]}
    notes = {**found["notes"]}
    for names, told in groups(found):
        lines += ["", listed(names)]
        lines += [f"  {check}: {text}" for check, text in told]
        lines += [f"  {text}" for text in grouped_notes(names, notes)]
        if len(names) == 1 and names[0] in by_name:
            lines += [f"  {text}" for text in drift_words(by_name[names[0]])]
    for name, texts in notes.items():
        lines += ["", name, *(f"  {text}" for text in texts)]
    return lines


def grouped_notes(names: Sequence[str], notes: dict[str, list[str]]) -> list[str]:
    """Return the notes of these columns, each once, and remove them from `notes`."""
    found: dict[str, list[str]] = {}
    for name in names:
        for text in notes.pop(name, ()):
            found.setdefault(text, []).append(name)
    if len(names) == 1:
        return [*found]
    return [f"{listed(some)}: {text}" for text, some in [*found.items()][:10]]


_AT = {
    Of.NUMBERS: "at or below {}",
    Of.CATEGORIES: "{!r}",
    Of.NUMBER_SHARE: "numbers ({})",
    Of.UNSEEN: "values that the baseline lacks",
    Of.LENGTHS: "at most {} characters long",
}


def drift_words(feature: Mapping[str, Any]) -> list[str]:
    """Return lines on why a column drifted, or did not."""
    if feature["drift"] is None:
        return []
    lines = [
        line
        for each in (feature["drift"], *feature["more_drifts"])
        for line in _comparison_words(each)
    ]
    return lines + _moved(feature)


def _comparison_words(drift: Mapping[str, Any]) -> list[str]:
    of = Of(drift["of"])
    before, now = percent(drift["baseline_share"]), percent(drift["share"])
    if of is Of.UNSEEN:
        such = f", such as {drift['where']!r}" if drift["where"] else ""
        lines = [f"{now} are {_AT[of]}{such}; {before} were to be expected"]
    else:
        head, verb = ("", "are") if of is Of.NUMBER_SHARE else ("widest gap: ", "is")
        at = _AT[of].format(drift["where"])
        lines = [f"{head}{before} of the baseline {verb} {at}, {now} now"]
    if drift["allowance"]:
        lines.append(
            f"{drift['method']}: {shown(drift['gap'])} less {shown(drift['allowance'])} for "
            f"{drift['baseline_rows']:,} and {drift['rows']:,} values is "
            f"{shown(drift['distance'])}, {'above' if drift['fired'] else 'not above'} "
            f"{drift['threshold']:g}"
        )
    if drift["note"]:
        lines.append(f"{drift['method']}: {drift['note']}")
    return lines


def _moved(feature: Mapping[str, Any]) -> list[str]:
    before, now = feature["baseline"], feature["current"]
    if before is None or before["mean"] is None or now["mean"] is None:
        return []
    text = f"mean {shown(before['mean'])} → {shown(now['mean'])}"
    if before["std_dev"]:
        text += f" ({(now['mean'] - before['mean']) / before['std_dev']:+.2f} sd)"
    if now["std_dev"] is not None and before["std_dev"] is not None:
        text += f", standard deviation {shown(before['std_dev'])} → {shown(now['std_dev'])}"
    return [text]


def power_words(found: Mapping[str, Any]) -> list[str]:
    head = (
        f"What {found['method']} at {found['threshold']:g} can see in "
        f"{count(found['columns'], 'column')} of numbers, with {found['baseline_rows']:,} baseline "
        f"values and {found['rows']:,} now (a bell-shaped column whose mean moves):"
    )
    shifts = [(shift, chance) for shift, chance in found["found_by_shift"] if shift]
    false = next(chance for shift, chance in found["found_by_shift"] if not shift)
    if not any(chance for _, chance in shifts):
        return ["", head, f"  no shift up to {shifts[-1][0]:g} sd: there are too few values"]
    chances = ", ".join(f"{shift:g} sd {percent(chance)}" for shift, chance in shifts)
    return ["", head, f"  a false alarm for {percent(false)} of the columns; found: {chances}"]
