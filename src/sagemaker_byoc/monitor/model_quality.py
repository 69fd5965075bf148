"""Model quality: predictions against the labels that came later, in AWS's files."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from sagemaker_byoc.contract.errors import RequestError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor import ground_truth, page, predictions
from sagemaker_byoc.monitor.data.checks import FILE as VIOLATIONS
from sagemaker_byoc.monitor.data.columns import shown
from sagemaker_byoc.monitor.data.constraints import FILE as CONSTRAINTS
from sagemaker_byoc.monitor.data.statistics import FILE as STATISTICS
from sagemaker_byoc.monitor.data.statistics import ORIGIN, origin
from sagemaker_byoc.monitor.explanation import FILE as EXPLANATION
from sagemaker_byoc.monitor.explanation import (
    VERSION,
    about_words,
    count,
    finite,
    listed,
    unread_document,
    unread_words,
)
from sagemaker_byoc.monitor.inputs.layout import Layout
from sagemaker_byoc.monitor.inputs.streams import DataError, Unread
from sagemaker_byoc.monitor.inputs.tables import Format, TableReader
from sagemaker_byoc.monitor.places import (
    Input,
    Places,
    detect_all,
    files_of,
    json_bytes,
    note_window,
)
from sagemaker_byoc.monitor.predictions import Attributes, Gathered
from sagemaker_byoc.monitor.scores import FEWEST_FOR_DEVIATION, Judged, Problem, Score, judge

_WORSE_IF_GREATER = frozenset({"mae", "mse", "rmse", "false_positive_rate", "false_negative_rate"})
LESS, GREATER = "LessThanThreshold", "GreaterThanThreshold"
MOST_CLASSES = 20
"""Rows and columns of a confusion matrix in a report."""
_CLASSES_IN_WORDS = 10
_LONGEST_CLASS = 16


@dataclass(frozen=True, slots=True)
class Outcome:
    judged: Judged
    violations: list[dict[str, Json]]
    explanation: dict[str, Json]


def make_baseline(places: Places, data: Input, wanted: Attributes, output: str) -> Judged:
    """Write statistics.json and constraints.json. Raise ByocError."""
    gathered = _gather(places, data, wanted)
    judged = judge(wanted.problem, predictions.arrays(gathered, wanted))
    places.write(
        output,
        {
            STATISTICS: json_bytes(
                _statistics(judged, wanted.problem) | {ORIGIN: origin(data.place)}
            ),
            CONSTRAINTS: json_bytes(suggest(judged, wanted.problem)),
        },
    )
    notices = unread_words(unread_document(gathered.unread))
    if gathered.unlabelled:
        notices.append(f"{count(gathered.unlabelled, 'row')} without a label")
    return replace(judged, notices=tuple(notices))


def run(
    places: Places,
    data: Input,
    wanted: Attributes,
    baseline: Mapping[str, Any],
    output: str,
) -> Outcome:
    """Write AWS's files, explanation.json and report.html; `baseline` is constraints.json."""
    gathered = _gather(places, data, wanted)
    judged = judge(wanted.problem, predictions.arrays(gathered, wanted))
    limits = _limits(baseline, wanted.problem)
    violations = check(judged, limits)
    why = _explanation(judged, gathered, limits, violations) | {"about": {**data.about}}
    places.write(
        output,
        {
            STATISTICS: json_bytes(_statistics(judged, wanted.problem)),
            CONSTRAINTS: json_bytes(suggest(judged, wanted.problem)),
            VIOLATIONS: json_bytes({"violations": [*violations]}),
            EXPLANATION: json_bytes(why),
            page.FILE: page.quality(why, _verdict(why), [f"{_rows(why)}.", *_violation_words(why)]),
        },
    )
    return Outcome(judged, violations, why)


def problem_of(constraints: Mapping[str, Any]) -> Problem | None:
    """Return the problem of a constraints.json; None for one of data quality."""
    return next((each for each in Problem if f"{each.stem}_constraints" in constraints), None)


def suggest(judged: Judged, problem: Problem) -> dict[str, Json]:
    """Return constraints at the baseline's own values, as AWS suggests; users loosen them."""
    found: dict[str, Json] = {}
    for name, score in judged.scores.items():
        if math.isfinite(score.value) and not name.endswith("_constant_classifier"):
            operator = GREATER if name in _WORSE_IF_GREATER else LESS
            found[name] = {"threshold": score.value, "comparison_operator": operator}
    return {"version": 0.0, f"{problem.stem}_constraints": found}


def check(judged: Judged, limits: Mapping[str, tuple[float, str]]) -> list[dict[str, Json]]:
    """Return violations, in the words of AWS's sample of custom metrics."""
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
            hint=f"Make one: byoc monitor baseline DATA --problem {problem} …",
        )
    limits: dict[str, tuple[float, str]] = {}
    for name, each in found.items():
        try:
            limit, operator = float(each["threshold"]), str(each["comparison_operator"])
            if not math.isfinite(limit):
                raise ValueError(f"a threshold of {limit}")  # noqa: TRY301 - reported below
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise DataError(
                f"the constraint {name} has no threshold or no comparison_operator",
                hint='Write {"threshold": 0.9, "comparison_operator": "LessThanThreshold"}',
            ) from error
        if operator not in (LESS, GREATER):
            raise DataError(
                f"the constraint {name} has the comparison_operator {operator!r}",
                hint=f"Write {LESS} or {GREATER}",
            )
        limits[name] = limit, operator
    return limits


def _statistics(judged: Judged, problem: Problem) -> dict[str, Json]:
    return {
        "version": 0.0,
        "dataset": {"item_count": judged.rows},
        f"{problem.stem}_metrics": judged.document,
    }


def _not_compared(judged: Judged, limits: Mapping[str, tuple[float, str]]) -> dict[str, Json]:
    """Return the baseline's metrics that this run has no number for, and why."""
    found: dict[str, Json] = {}
    for name in limits:
        score = judged.scores.get(name)
        if score is None:
            found[name] = "it can't be computed from what this run has"
        elif not math.isfinite(score.value):
            found[name] = "it has no value for these labels"
    return found


def _gather(places: Places, data: Input, wanted: Attributes) -> Gathered:
    predictions.check(wanted)
    names = files_of(places, data)
    form = data.form or detect_all(places, names)
    known, unread = None, Unread()
    if wanted.labels is not None:
        known, unread = _labels(places, wanted.labels)
    if form is not Format.CAPTURE:
        reader = TableReader(form, Layout(), keeps_ids=True)
        gathered = ground_truth.from_table(reader, names, places.open, wanted, known)
    else:
        gathered = ground_truth.from_captures(names, places.open, wanted, known or {}, data)
    gathered.unread.join(unread)
    note_window(data, form, names, gathered.unread)
    return gathered


def _labels(places: Places, place: str) -> tuple[ground_truth.Labels, Unread]:
    known, unread = ground_truth.labels(places.files(place), places.open)
    if not known and unread.count:
        raise DataError(
            f"{place} has no labels ({unread.count} of {unread.lines} lines are not labels)",
            hint='Give lines as {"groundTruthData": {"data": "1", "encoding": "CSV"}, '
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
    left_out = _not_compared(judged, limits)
    return {
        "version": VERSION,
        "kind": "model_quality",
        "rows": judged.rows,
        "unlabelled": gathered.unlabelled,
        "unread": unread_document(gathered.unread),
        "checks": len(limits) - len(left_out),
        "not_compared": left_out,
        "violations": [*violations],
        "metrics": [
            _metric(name, score, limits.get(name)) for name, score in judged.scores.items()
        ],
        "confusion_matrix": _matrix(judged),
    }


def _metric(name: str, score: Score, limit: tuple[float, str] | None) -> dict[str, Json]:
    return {
        "name": name,
        "value": finite(score.value),
        "standard_error": finite(score.error),
        "threshold": limit[0] if limit else None,
        "comparison_operator": limit[1] if limit else None,
    }


def _matrix(judged: Judged) -> dict[str, Json] | None:
    """Return counts of the largest classes, rows the truth; None for a regression.

    The rest is one class; statistics.json has every one.
    """
    if judged.matrix is None:
        return None
    sizes = judged.matrix.sum(axis=0) + judged.matrix.sum(axis=1)
    largest = sorted(np.argsort(-sizes, kind="stable")[:MOST_CLASSES].tolist())
    place = np.full(len(sizes), len(largest))
    place[largest] = np.arange(len(largest))
    names = [judged.classes[each] for each in largest]
    if len(largest) < len(sizes):
        names.append(f"({len(sizes) - len(largest):,} others)")
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    np.add.at(counts, (place[:, None], place[None, :]), judged.matrix)
    return {"classes": [*names], "counts": [[*row] for row in counts.tolist()]}


def _verdict(why: Mapping[str, Any]) -> str:
    fired, compared = len(why["violations"]), why["checks"]
    left_out = len(why["not_compared"])
    head = f"violations: {fired}" if fired else f"no violation in {count(compared, 'metric')}"
    return head + (f"; {left_out:,} not compared" if left_out else "")


def words(why: Mapping[str, Any]) -> list[str]:
    """Return lines for a person."""
    return [
        *about_words(why["about"]),
        f"{_rows(why)}: {_verdict(why)}",
        *(f"not compared: {name}: {reason}" for name, reason in why["not_compared"].items()),
        *_violation_words(why),
        *_matrix_words(why["confusion_matrix"]),
    ]


def _rows(why: Mapping[str, Any]) -> str:
    return f"{why['rows']:,} predictions with a label, {why['unlabelled']:,} without"


def _violation_words(why: Mapping[str, Any]) -> list[str]:
    lines = unread_words(why["unread"])
    by_name = {each["name"]: each for each in why["metrics"]}
    told: dict[str, list[str]] = {}
    for each in why["violations"]:
        metric = by_name[each["metric_name"]]
        told.setdefault("\n".join(_metric_words(metric)), []).append(metric["name"])
    for text, names in told.items():
        lines += ["", *f"{listed(names)}: {text}".splitlines()]
    if told and why["rows"] < FEWEST_FOR_DEVIATION:
        few = f"with fewer than {FEWEST_FOR_DEVIATION} labels, how far chance goes is not known"
        lines += ["", few]
    return lines


def _metric_words(metric: Mapping[str, Any]) -> list[str]:
    side = "below" if metric["comparison_operator"] == LESS else "above"
    value, threshold = shown(metric["value"]), shown(metric["threshold"])
    return [f"{value} is {side} the threshold {threshold}", *_chance(metric)]


def _chance(metric: Mapping[str, Any]) -> list[str]:
    error = metric["standard_error"]
    if not error:
        return []
    apart = abs(metric["value"] - metric["threshold"]) / error
    verdict = "chance alone does that" if apart < 2 else "more than chance does"
    told = f"{apart:.1f} standard errors ({shown(error)}) from the threshold: {verdict}"
    return [f"  {told}; a change of {shown(2.8 * error)} would be found 4 times in 5"]


def _matrix_words(matrix: Mapping[str, Any] | None) -> list[str]:
    """Return a table for a terminal; a page has room for more classes."""
    if matrix is None or len(matrix["classes"]) > _CLASSES_IN_WORDS:
        return []
    names = [each[:_LONGEST_CLASS] for each in matrix["classes"]]
    rows = [["truth \\ predicted", *names]]
    rows += [
        [name, *(f"{each:,}" for each in counts)]
        for name, counts in zip(names, matrix["counts"], strict=True)
    ]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["", "confusion matrix"] + [
        "  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        for row in rows
    ]
