"""GetMetricStatistics, GetMetricData and ListMetrics: reads of a MetricStore."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sagemaker_byoc.region.core import paging
from sagemaker_byoc.region.services.cloudwatch.metric import Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore, Point
from sagemaker_byoc.region.services.cloudwatch.metric_writes import invalid_value
from sagemaker_byoc.region.services.cloudwatch.summaries import SIMPLE, Statistic, parse_statistic
from sagemaker_byoc.region.wire.operations import AwsError, Parameters

DATAPOINTS = 1440
"""Points that one GetMetricStatistics may return."""
ALL_DATAPOINTS = 100_800
QUERIES = 500
"""Limits of one GetMetricData."""
PAGE = 500
"""Metrics of one ListMetrics [model]."""
_LISTED = 14 * 86_400
_RECENT = 3 * 3600
"""Ages of the newest value of a metric that ListMetrics returns."""
_SHORT_PERIODS = frozenset({1, 5, 10, 20, 30})
_LONGEST = 455 * 86_400
"""A period as long as anything is kept."""
_ROUNDING = ((15 * 86_400, 60), (63 * 86_400, 300), (math.inf, 3600))
"""Seconds that a start is rounded to, by its age [model: GetMetricStatistics]."""
_REFUSED = {
    "Expression": "it has no metric math; name the metric in MetricStat",
    "Period": "it is that of an Expression; name the period in MetricStat",
    "AccountId": "it has one account; leave it out",
}
_SWAPPED = "EndTime must be greater than StartTime"
_ID = re.compile(r"[a-z][a-zA-Z0-9_]*")


def get_metric_statistics(store: MetricStore, parameters: Parameters, now: float) -> Parameters:
    simple = parameters.get("Statistics", ())
    extended = parameters.get("ExtendedStatistics", ())
    if not simple and not extended:
        raise AwsError(
            "InvalidParameterCombination", "Must specify either Statistics or ExtendedStatistics"
        )
    functions = {name: _statistic(name, "ExtendedStatistics") for name in extended}
    for name in extended:
        if name in SIMPLE:
            raise invalid_value(name, "ExtendedStatistics")
    period = parameters["Period"]
    span = _span(parameters, period, now)
    most = math.ceil((span.end - span.start) / period)
    if most > DATAPOINTS:
        raise AwsError(
            "InvalidParameterCombination",
            f"You have requested up to {most:,} datapoints, which exceeds the limit of"
            f" {DATAPOINTS:,}. You may reduce the datapoints requested by increasing Period, or"
            " decreasing the time range.",
        )
    metric = read_metric(parameters)
    found = store.read(metric, span.start, span.end, period, parameters.get("Unit"))
    return {
        "Label": metric.name,
        "Datapoints": [
            document for point in found if (document := _datapoint(point, simple, functions))
        ],
    }


def get_metric_data(store: MetricStore, parameters: Parameters, now: float) -> Parameters:
    """Answer a page: whole queries, and the beginning of one that the next page continues."""
    parameters.get("LabelOptions")  # the time zone of dynamic labels, which are not evaluated
    queries = [
        _query(document, number)
        for number, document in enumerate(parameters["MetricDataQueries"], 1)
    ]
    if not 1 <= len(queries) <= QUERIES:
        raise AwsError(
            "ValidationError",
            f"The collection MetricDataQueries must have a size from 1 to {QUERIES}.",
        )
    ids = [query.id for query in queries]
    if len(set(ids)) < len(ids):
        raise AwsError("ValidationError", "The values for parameter id must be unique.")
    if parameters["StartTime"] >= parameters["EndTime"]:
        is_same = parameters["StartTime"] == parameters["EndTime"]
        words = "StartTime must not equal parameter EndTime" if is_same else _SWAPPED
        raise AwsError("ValidationError", f"The parameter {words}.")
    descending = parameters.get("ScanBy") != "TimestampAscending"
    most = parameters.get("MaxDatapoints", ALL_DATAPOINTS)
    if not 1 <= most <= ALL_DATAPOINTS:
        raise invalid_value(most, "MaxDatapoints")
    first, after = _parse_token(parameters.get("NextToken"))
    results: list[dict[str, Any]] = []
    for index, query in enumerate(queries[first:], first):
        span = _span(parameters, query.period, now)
        values = query.values(store, span, descending=descending)
        if index == first and after is not None:
            values = [each for each in values if each.is_after(after, descending=descending)]
        part = values[:most] if query.is_returned else []
        most -= len(part)
        is_whole = len(part) == len(values) or not query.is_returned
        if query.is_returned:
            results.append(query.document(part, is_whole=is_whole))
        if not is_whole:
            place = part[-1].place if part else after
            return {"MetricDataResults": results, "NextToken": _token(index, place), "Messages": []}
        if most == 0 and index + 1 < len(queries):
            token = _token(index + 1, None)
            return {"MetricDataResults": results, "NextToken": token, "Messages": []}
    return {"MetricDataResults": results, "Messages": []}


def list_metrics(
    store: MetricStore, parameters: Parameters, now: float, account: str
) -> Parameters:
    """Answer ListMetrics. A metric of two units is listed once."""
    parameters.get("IncludeLinkedAccounts")  # there are none
    age = _RECENT if "RecentlyActive" in parameters else _LISTED
    filters = [(each["Name"], each.get("Value")) for each in parameters.get("Dimensions", ())]
    owner = parameters.get("OwningAccount", account)
    found = [
        metric
        for metric in store.metrics(math.floor(now) - age)
        if owner == account
        and parameters.get("Namespace", metric.namespace) == metric.namespace
        and parameters.get("MetricName", metric.name) == metric.name
        and _has_dimensions(metric, filters)
    ]
    try:
        part, token = paging.page(
            found,
            lambda metric: (metric.namespace, metric.name, json.dumps(metric.dimensions)),
            size=PAGE,
            token=parameters.get("NextToken"),
        )
    except paging.TokenError as error:
        raise AwsError("InvalidParameterValue", "Request parameter NextToken is invalid") from error
    return {"Metrics": [metric_document(metric) for metric in part], "NextToken": token}


def read_metric(document: Mapping[str, Any]) -> Metric:
    """Return the metric that Namespace, MetricName and Dimensions name."""
    pairs = {each["Name"]: each["Value"] for each in document.get("Dimensions", ())}
    return Metric.of(document["Namespace"], document["MetricName"], pairs)


def metric_document(metric: Metric) -> dict[str, Any]:
    return {
        "Namespace": metric.namespace,
        "MetricName": metric.name,
        "Dimensions": [{"Name": name, "Value": value} for name, value in metric.dimensions],
    }


@dataclass(frozen=True, slots=True)
class _Span:
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class _Value:
    time: int
    unit: str
    value: float

    @property
    def place(self) -> tuple[int, str]:
        return self.time, self.unit

    def is_after(self, place: tuple[int, str], *, descending: bool) -> bool:
        return self.place < place if descending else self.place > place


@dataclass(frozen=True, slots=True, kw_only=True)
class _Query:
    id: str
    label: str
    metric: Metric
    period: int
    statistic: Statistic
    unit: str | None
    is_returned: bool

    def values(self, store: MetricStore, span: _Span, *, descending: bool) -> list[_Value]:
        found = [
            _Value(point.time, point.unit, value)
            for point in store.read(self.metric, span.start, span.end, self.period, self.unit)
            if (value := self.statistic(point.summary)) is not None
        ]
        return found[::-1] if descending else found

    def document(self, values: list[_Value], *, is_whole: bool) -> dict[str, Any]:
        return {
            "Id": self.id,
            "Label": self.label,
            "Timestamps": [_time(each.time) for each in values],
            "Values": [each.value for each in values],
            "StatusCode": "Complete" if is_whole else "PartialData",
        }


def _query(document: dict[str, Any], number: int) -> _Query:
    path = f"MetricDataQueries.member.{number}"
    if not _ID.fullmatch(document["Id"]):
        raise AwsError(
            "ValidationError",
            f"The value {document['Id']} for parameter {path}.Id is not matching the expected"
            f" pattern ^{_ID.pattern}$.",
        )
    for name, hint in _REFUSED.items():
        if name in document:
            raise AwsError(
                "ValidationError", f"{path}.{name} is not supported by this local region: {hint}"
            )
    if "MetricStat" not in document:
        raise AwsError("ValidationError", f"The parameter {path}.MetricStat is required.")
    stat = document["MetricStat"]
    for name in ("Namespace", "MetricName"):
        if name not in stat["Metric"]:
            where = f"{path}.MetricStat.Metric.{name}"
            raise AwsError("ValidationError", f"The parameter {where} is required.")
    metric = read_metric(stat["Metric"])
    return _Query(
        id=document["Id"],
        label=document.get("Label", metric.name),
        metric=metric,
        period=stat["Period"],
        statistic=_statistic(stat["Stat"], f"{path}.MetricStat.Stat"),
        unit=stat.get("Unit"),
        is_returned=document.get("ReturnData", True),
    )


def _statistic(name: str, path: str) -> Statistic:
    try:
        return parse_statistic(name)
    except ValueError:
        raise invalid_value(name, path) from None


def is_period(seconds: int) -> bool:
    return seconds in _SHORT_PERIODS or (seconds % 60 == 0 and seconds <= _LONGEST)


def _span(parameters: Parameters, period: int, now: float) -> _Span:
    """Return the seconds to read: the start is rounded down as AWS rounds it."""
    if not is_period(period):
        raise AwsError(
            "InvalidParameterValue",
            f"The value {period} for parameter Period is invalid: it must be 1, 5, 10, 20, 30 or a"
            " multiple of 60.",
        )
    start = math.floor(parameters["StartTime"].timestamp())
    end = math.ceil(parameters["EndTime"].timestamp())
    if start >= end:
        raise AwsError(
            "InvalidParameterValue",
            "The parameter StartTime must be less than the parameter EndTime.",
        )
    step = next(step for age, step in _ROUNDING if now - start <= age)
    if period < step == 60:
        step = period
    return _Span(start - start % step, end)


def _datapoint(
    point: Point, simple: Iterable[str], extended: dict[str, Statistic]
) -> dict[str, Any] | None:
    """Return a Datapoint; None if it has no statistic that was asked for."""
    found: dict[str, Any] = {name: SIMPLE[name](point.summary) for name in simple}
    percentiles = {
        name: value
        for name, function in extended.items()
        if (value := function(point.summary)) is not None
    }
    if percentiles:
        found["ExtendedStatistics"] = percentiles
    return {"Timestamp": _time(point.time), **found, "Unit": point.unit} if found else None


def _time(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _has_dimensions(metric: Metric, filters: Iterable[tuple[str, str | None]]) -> bool:
    pairs = dict(metric.dimensions)
    return all(name in pairs and (value is None or pairs[name] == value) for name, value in filters)


def _token(index: int, place: tuple[int, str] | None) -> str:
    return paging.encode([index, place])


def _parse_token(token: str | None) -> tuple[int, tuple[int, str] | None]:
    """Return the number of the query that a page begins with, and the place of its last value."""
    if token is None:
        return 0, None
    try:
        match paging.decode(token):
            case [int(index), None] if index >= 0:
                return index, None
            case [int(index), [int(time), str(unit)]] if index >= 0:
                return index, (time, unit)
    except paging.TokenError:
        pass
    raise AwsError("InvalidNextToken", "Request parameter NextToken is invalid")
