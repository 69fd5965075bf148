"""Model quality: predictions against the labels that came later, in AWS's files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor import joining, page, truth
from sagemaker_byoc.monitor.checks import FILE as VIOLATIONS
from sagemaker_byoc.monitor.constraints import FILE as CONSTRAINTS
from sagemaker_byoc.monitor.errors import DataError, RequestError
from sagemaker_byoc.monitor.explanation import FILE as EXPLANATION
from sagemaker_byoc.monitor.explanation import unread_document, unread_words
from sagemaker_byoc.monitor.jobs import Input, detect_all, files_of
from sagemaker_byoc.monitor.layout import Layout
from sagemaker_byoc.monitor.places import Places, json_bytes
from sagemaker_byoc.monitor.scores import Judged, Problem, Score, judge
from sagemaker_byoc.monitor.statistics import FILE as STATISTICS
from sagemaker_byoc.monitor.streams import Unread
from sagemaker_byoc.monitor.tables import Format, TableReader
from sagemaker_byoc.monitor.truth import Attributes, Gathered

_WORSE_IF_GREATER = frozenset({"mae", "mse", "rmse", "false_positive_rate", "false_negative_rate"})
LESS, GREATER = "LessThanThreshold", "GreaterThanThreshold"


@dataclass(frozen=True, slots=True)
class Outcome:
    judged: Judged
    violations: list[dict[str, Json]]
    explanation: dict[str, Json]


def make_baseline(places: Places, data: Input, wanted: Attributes, output: str) -> Judged:
    """Writes statistics.json and constraints.json. Raises MonitorError."""
    gathered = _gather(places, data, wanted)
    judged = judge(wanted.problem, truth.predictions(gathered, wanted))
    places.write(
        output,
        {
            STATISTICS: json_bytes(_statistics(judged, wanted.problem)),
            CONSTRAINTS: json_bytes(suggest(judged, wanted.problem)),
        },
    )
    return judged


def run(
    places: Places,
    data: Input,
    wanted: Attributes,
    baseline: Mapping[str, Any],
    output: str,
) -> Outcome:
    """`baseline` is constraints.json. Writes AWS's files, explanation.json and report.html."""
    gathered = _gather(places, data, wanted)
    judged = judge(wanted.problem, truth.predictions(gathered, wanted))
    limits = _limits(baseline, wanted.problem)
    violations = check(judged, limits)
    why = _explanation(judged, gathered, limits, violations)
    body = page.paragraphs(words(why)) + _table(why)
    head = f"<h1>What the monitor saw of the model</h1>{page.verdict([*why_violations(why)])}"
    places.write(
        output,
        {
            STATISTICS: json_bytes(_statistics(judged, wanted.problem)),
            CONSTRAINTS: json_bytes(suggest(judged, wanted.problem)),
            VIOLATIONS: json_bytes({"violations": [*violations]}),
            EXPLANATION: json_bytes(why),
            page.FILE: page.whole("Monitor: model quality", head + body).encode(),
        },
    )
    return Outcome(judged, violations, why)


def problem_of(constraints: Mapping[str, Any]) -> Problem | None:
    """Which problem a constraints.json is about; None for one of data quality."""
    return next((each for each in Problem if f"{each.stem}_constraints" in constraints), None)


def suggest(judged: Judged, problem: Problem) -> dict[str, Json]:
    """The baseline's own values, as AWS suggests them: loosen what is too strict for you."""
    found: dict[str, Json] = {}
    for name, score in judged.scores.items():
        if math.isfinite(score.value) and not name.endswith("_constant_classifier"):
            operator = GREATER if name in _WORSE_IF_GREATER else LESS
            found[name] = {"threshold": score.value, "comparison_operator": operator}
    return {"version": 0.0, f"{problem.stem}_constraints": found}


def check(judged: Judged, limits: Mapping[str, tuple[float, str]]) -> list[dict[str, Json]]:
    """The text is that of AWS's custom-metrics sample; the analyzer's own was not at hand."""
    found: list[dict[str, Json]] = []
    for name, (limit, operator) in limits.items():
        score = judged.scores.get(name)
        if score is None or not math.isfinite(score.value):
            continue
        if score.value < limit if operator == LESS else score.value > limit:
            found.append(
                {
                    "metric_name": name,
                    "constraint_check_type": operator,
                    "description": f"Metric {name} with {score.value} was {operator} {limit}",
                }
            )
    return found


def _limits(baseline: Mapping[str, Any], problem: Problem) -> dict[str, tuple[float, str]]:
    found = baseline.get(f"{problem.stem}_constraints")
    if not isinstance(found, dict):
        raise RequestError(
            f"the baseline's constraints are not for {problem}",
            cure=f"Make one: byoc monitor baseline DATA --problem {problem} …",
        )
    limits: dict[str, tuple[float, str]] = {}
    for name, each in found.items():
        try:
            limit, operator = float(each["threshold"]), str(each["comparison_operator"])
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(
                f"the constraint {name} has no threshold or no comparison_operator",
                cure='Write {"threshold": 0.9, "comparison_operator": "LessThanThreshold"}',
            ) from error
        if operator not in (LESS, GREATER):
            raise DataError(
                f"the constraint {name} has the comparison_operator {operator!r}",
                cure=f"Write {LESS} or {GREATER}",
            )
        limits[name] = limit, operator
    return limits


def _statistics(judged: Judged, problem: Problem) -> dict[str, Json]:
    return {
        "version": 0.0,
        "dataset": {"item_count": judged.rows},
        f"{problem.stem}_metrics": judged.document,
    }


def _gather(places: Places, data: Input, wanted: Attributes) -> Gathered:
    truth.check(wanted)
    names = files_of(places, data)
    form = data.form or detect_all(places, names)
    known, unread = None, Unread()
    if wanted.labels is not None:
        known, unread = _labels(places, wanted.labels)
    if form is not Format.CAPTURE:
        reader = TableReader(form, Layout(), keeps_ids=True)
        gathered = joining.from_table(reader, names, places.open, wanted, known)
    else:
        gathered = joining.from_captures(names, places.open, wanted, known or {}, data)
    gathered.unread.join(unread)
    return gathered


def _labels(places: Places, place: str) -> tuple[joining.Labels, Unread]:
    known, unread = joining.labels(places.files(place), places.open)
    if not known and unread.count:
        raise DataError(
            f"{place} holds no label ({unread.count} of {unread.lines} lines are none)",
            cure='Give lines as {"groundTruthData": {"data": "1", "encoding": "CSV"}, '
            '"eventMetadata": {"eventId": "…"}, "eventVersion": "0"}',
        )
    return known, unread


# ── why ──


def _explanation(
    judged: Judged,
    gathered: Gathered,
    limits: Mapping[str, tuple[float, str]],
    violations: list[dict[str, Json]],
) -> dict[str, Json]:
    return {
        "version": 1,
        "kind": "model_quality",
        "rows": judged.rows,
        "unlabelled": gathered.unlabelled,
        "unread": unread_document(gathered.unread),
        "violations": [*violations],
        "metrics": [
            _metric(name, score, limits.get(name)) for name, score in judged.scores.items()
        ],
    }


def _metric(name: str, score: Score, limit: tuple[float, str] | None) -> dict[str, Json]:
    return {
        "name": name,
        "value": _finite(score.value),
        "standard_error": _finite(score.error),
        "threshold": limit[0] if limit else None,
        "comparison_operator": limit[1] if limit else None,
    }


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None


def why_violations(why: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return list(why["violations"])


def words(why: Mapping[str, Any]) -> list[str]:
    """Lines for a person."""
    found = why["violations"]
    lines = [
        f"{why['rows']:,} predictions with a label, {why['unlabelled']:,} without: "
        + (f"violations: {len(found)}" if found else "no violation")
    ]
    lines += unread_words(why["unread"])
    by_name = {each["name"]: each for each in why["metrics"]}
    for each in found:
        lines += ["", each["description"], *_chance(by_name[each["metric_name"]])]
    return lines


def _chance(metric: Mapping[str, Any]) -> list[str]:
    error = metric["standard_error"]
    if not error:
        return ["  with fewer than 200 labels, how far chance goes is not known"]
    apart = abs(metric["value"] - metric["threshold"]) / error
    verdict = "chance alone does that" if apart < 2 else "more than chance does"
    told = f"{apart:.1f} standard errors ({error:.3g}) from the threshold: {verdict}"
    return [f"  {told}; a change of {2.8 * error:.3g} would be found 4 times in 5"]


def _table(why: Mapping[str, Any]) -> str:
    fired = {each["metric_name"] for each in why["violations"]}
    rows = "".join(
        f"<tr><td{' class=bad' if each['name'] in fired else ''}>{escape(each['name'])}</td>"
        f"<td>{_shown(each['value'])}</td><td>{_shown(each['standard_error'])}</td>"
        f"<td>{_shown(each['threshold'])}</td></tr>"
        for each in why["metrics"]
    )
    return (
        "<h2>Metrics</h2><table><tr><th>metric</th><th>value</th><th>standard error</th>"
        f"<th>threshold</th></tr>{rows}</table>"
    )


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
