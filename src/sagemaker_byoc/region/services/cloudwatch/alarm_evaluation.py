"""What state an alarm has, given the values of its periods.

Source: CloudWatch user guide, "Alarm evaluation" and "Configuring how CloudWatch alarms treat
missing data". An alarm of N periods looks at `EXTRA` more, and fills in missing values only if it
finds fewer than N.
"""

from __future__ import annotations

import json
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeAlias

from sagemaker_byoc.region.services.cloudwatch.metric_queries import read_metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.summaries import Summary, parse_statistic

OK, ALARM, INSUFFICIENT = "OK", "ALARM", "INSUFFICIENT_DATA"
EXTRA = 2
"""Periods before the N that are evaluated. AWS's tables have 5 for an alarm of 3."""
_DATA_LENGTH = 4000
_REASON_LENGTH = 1023
"""Characters of StateReasonData and StateReason [model]."""
_MOST_DATA = _DATA_LENGTH // 80
"""One of evaluatedDatapoints and recentDatapoints together have at least 80 characters."""

OPERATORS: Mapping[str, tuple[Callable[[float, float], bool], str]] = {
    "GreaterThanOrEqualToThreshold": (operator.ge, "greater than or equal to"),
    "GreaterThanThreshold": (operator.gt, "greater than"),
    "LessThanThreshold": (operator.lt, "less than"),
    "LessThanOrEqualToThreshold": (operator.le, "less than or equal to"),
}
TREATMENTS = ("breaching", "notBreaching", "ignore", "missing")

Values: TypeAlias = Sequence[float | None]
"""One per period, the newest last; None if the period has no value."""


def judge(breaching: Sequence[bool | None], needed: int, of: int, treatment: str) -> str | None:
    """Return the state of an alarm of `needed` out of `of` periods; None if it keeps its state.

    `breaching` has an item per period, the newest last: whether the period's value breaches the
    threshold, or None if the period has no value.
    """
    recent = [each for each in breaching if each is not None][-of:]
    count, missing = sum(recent), of - len(recent)
    if not missing or treatment in {"breaching", "notBreaching"}:
        filled = missing if treatment == "breaching" else 0
        return ALARM if count + filled >= needed else OK
    if count >= needed:
        return ALARM
    if not all(recent):
        return OK
    # Only breaching values, fewer than needed, or none.
    if treatment == "ignore":
        return None
    if not recent:
        return INSUFFICIENT
    # The oldest one may be old enough to alarm [guide]. That the state is kept until then is what
    # we assume: the guide has no case of it.
    return ALARM if len(breaching) - breaching.index(True) >= needed else None


@dataclass(frozen=True, slots=True)
class Verdict:
    state: str
    reason: str
    data: str
    """StateReasonData, which auto scaling reads."""


@dataclass(frozen=True, slots=True)
class _PeriodValue:
    start: int
    value: float | None
    samples: float


def evaluate(store: MetricStore, alarm: Mapping[str, Any], now: float) -> Verdict | None:
    """Return the state of an alarm, which may be the one it has; None if that can't be told.

    `alarm` has the members of PutMetricAlarm. Only periods that have ended are read.
    """
    period, of = alarm["Period"], alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm", of)
    end = int(now) // min(period, 60) * min(period, 60)
    data = _read(store, alarm, end - period * (of + EXTRA), end)
    breaches, _ = OPERATORS[alarm["ComparisonOperator"]]
    threshold = alarm["Threshold"]
    breaching = [None if each.value is None else breaches(each.value, threshold) for each in data]
    treatment = alarm.get("TreatMissingData", "missing")
    state = judge(breaching, needed, of, treatment)
    if state is None:
        return None
    real = [each for each in data if each.value is not None][-of:]
    if sum(each.samples for each in real) < _fewest_samples(alarm):
        return None
    reason = _reason(alarm, state, real)
    return Verdict(state, reason[:_REASON_LENGTH], _data(alarm, real, now))


def _read(store: MetricStore, alarm: Mapping[str, Any], start: int, end: int) -> list[_PeriodValue]:
    """Return the value of each period; without a unit, the values of all units together."""
    period = alarm["Period"]
    statistic = parse_statistic(alarm.get("Statistic") or alarm["ExtendedStatistic"])
    found: dict[int, Summary] = {}
    for point in store.read(read_metric(alarm), start, end, period, alarm.get("Unit")):
        if point.time in found:
            found[point.time].merge(point.summary)
        else:
            found[point.time] = point.summary
    return [
        _PeriodValue(
            at,
            None if at not in found else statistic(found[at]),
            0.0 if at not in found else found[at].count,
        )
        for at in range(start, end, period)
    ]


def _fewest_samples(alarm: Mapping[str, Any]) -> float:
    """Return how many values a percentile needs in order to count, if few are ignored [guide]."""
    name = alarm.get("ExtendedStatistic", "")
    if alarm.get("EvaluateLowSampleCountPercentile") != "ignore" or not name.startswith("p"):
        return 0.0
    share = float(name[1:]) / 100
    rarest = min(share, 1 - share)
    return round(10 / rarest, 6) if rarest > 0 else 0.0


def _reason(alarm: Mapping[str, Any], state: str, real: Sequence[_PeriodValue]) -> str:
    """Return AWS's sentence for a state."""
    breaches, words = OPERATORS[alarm["ComparisonOperator"]]
    of, threshold = alarm["EvaluationPeriods"], alarm["Threshold"]
    missing = of - len(real)
    if state == INSUFFICIENT:
        return f"Insufficient Data: {_plural(missing, 'datapoint')} {_were(missing)} unknown."
    if not real:
        treated = "Breaching" if state == ALARM else "NonBreaching"
        return (
            f"Threshold Crossed: no datapoints were received for {_plural(of, 'period')} and"
            f" {_plural(missing, 'missing datapoint')} {_were(missing)} treated as [{treated}]."
        )
    needed = alarm.get("DatapointsToAlarm", of)
    is_alarm = state == ALARM
    agreeing = [
        each
        for each in real
        if each.value is not None and breaches(each.value, threshold) == is_alarm
    ]
    shown = ", ".join(f"{each.value} ({_shown_time(each.start)})" for each in reversed(agreeing))
    verb = _were(len(agreeing)) if is_alarm else f"{_were(len(agreeing))} not"
    enough = needed if is_alarm else of - needed + 1
    change = "OK -> ALARM" if is_alarm else "ALARM -> OK"
    return (
        f"Threshold Crossed: {len(agreeing)} out of the last {_plural(of, 'datapoint')} [{shown}]"
        f" {verb} {words} the threshold ({threshold}) (minimum {_plural(enough, 'datapoint')} for"
        f" {change} transition)."
    )


def _data(alarm: Mapping[str, Any], real: Sequence[_PeriodValue], now: float) -> str:
    recent = real[-_MOST_DATA:]
    document = {
        "version": "1.0",
        "queryDate": stamp(now),
        "statistic": alarm.get("Statistic") or alarm["ExtendedStatistic"],
        "period": alarm["Period"],
        "recentDatapoints": [each.value for each in recent],
        "threshold": alarm["Threshold"],
        "evaluatedDatapoints": [
            {"timestamp": stamp(each.start), "sampleCount": each.samples, "value": each.value}
            for each in reversed(recent)
        ],
    }
    if real:
        document["startDate"] = stamp(real[0].start)
    if "Unit" in alarm:
        document["unit"] = alarm["Unit"]
    while len(text := json.dumps(document)) > _DATA_LENGTH:
        document["evaluatedDatapoints"].pop()
        document["recentDatapoints"] = document["recentDatapoints"][1:]
    return text


def stamp(seconds: float) -> str:
    """Return a time as StateReasonData and the history have it: 2026-11-30T12:00:00.000+0000."""
    time = datetime.fromtimestamp(seconds, UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{time.microsecond // 1000:03d}+0000"


def _shown_time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%d/%m/%y %H:%M:%S}"


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _were(count: int) -> str:
    return "was" if count == 1 else "were"
