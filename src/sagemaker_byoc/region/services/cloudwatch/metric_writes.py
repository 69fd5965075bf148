"""PutMetricData: checks of its datums, in AWS's words, and the summaries that they become.

Nothing of a request is stored if one of its datums is refused [model: PutMetricData].
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from sagemaker_byoc.region.services.cloudwatch.metric import NO_UNIT, Metric
from sagemaker_byoc.region.services.cloudwatch.metric_store import MetricStore
from sagemaker_byoc.region.services.cloudwatch.summaries import LARGEST, Summary
from sagemaker_byoc.region.wire.operations import AwsError, Parameters

METRICS = 1000
VALUES = 150
"""Limits of one request, and of one datum."""
_OLDEST, _NEWEST = 14 * 86_400, 2 * 3600
"""Seconds that a time may be in the past and in the future."""
_RESOLUTIONS = frozenset({1, 60})
_RESERVED = "AWS/"
_PLAIN = re.compile(r"[^:\x00-\x1f\x7f-\U0010ffff][^\x00-\x1f\x7f-\U0010ffff]*")
"""Names of dimensions and namespaces: ASCII without control characters or a colon in front."""
_PLAIN_VALUE = re.compile(r"[^\x00-\x1f\x7f-\U0010ffff]+")
_CONTROL = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class _Datum:
    metric: Metric
    summary: Summary
    time: float
    unit: str
    resolution: int


def put_metric_data(store: MetricStore, parameters: Parameters, now: float) -> Parameters:
    """Answer PutMetricData. An entity is accepted, and not associated with its metrics."""
    namespace = parameters["Namespace"]
    if namespace.startswith(_RESERVED) or not _PLAIN.fullmatch(namespace):
        raise invalid_value(namespace, "Namespace")
    documents = list(_documents(parameters))
    if not documents:
        raise AwsError("MissingParameter", "The parameter MetricData is required.")
    if len(documents) > METRICS:
        raise AwsError(
            "InvalidParameterValue",
            f"The collection MetricData must not have a size greater than {METRICS}.",
        )
    datums = [_read(namespace, document, path, now) for path, document in documents]
    for each in datums:
        # What a full store drops is in its log. An error would make SDKs send all of it again, and
        # what is stored would count twice.
        store.put_summary(
            each.metric, each.summary, each.time, unit=each.unit, resolution=each.resolution
        )
    return {}


def _documents(parameters: Parameters) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each datum with its path in the request."""
    parameters.get("StrictEntityValidation")  # of entities, which have no effect here
    for number, datum in enumerate(parameters.get("MetricData", ()), 1):
        yield f"MetricData.member.{number}", datum
    for place, entity in enumerate(parameters.get("EntityMetricData", ()), 1):
        for number, datum in enumerate(entity.get("MetricData", ()), 1):
            yield f"EntityMetricData.member.{place}.MetricData.member.{number}", datum


def _read(namespace: str, datum: dict[str, Any], path: str, now: float) -> _Datum:
    if _CONTROL.search(datum["MetricName"]):
        raise invalid_value(datum["MetricName"], f"{path}.MetricName")
    resolution = datum.get("StorageResolution", 60)
    if resolution not in _RESOLUTIONS:
        raise invalid_value(resolution, f"{path}.StorageResolution")
    dimensions = read_dimensions(datum.get("Dimensions", ()), path)
    time = now
    if "Timestamp" in datum:
        time = datum["Timestamp"].timestamp()
        if time < now - _OLDEST:
            raise _untimely(path, "no more than two weeks in the past")
        if time > now + _NEWEST:
            raise _untimely(path, "no more than two hours in the future")
    return _Datum(
        metric=Metric.of(namespace, datum["MetricName"], dimensions),
        summary=_summary(datum, path),
        time=time,
        unit=datum.get("Unit", NO_UNIT),
        resolution=resolution,
    )


def read_dimensions(documents: Iterable[dict[str, str]], path: str) -> dict[str, str]:
    """Return dimensions by name; raise AwsError for texts that AWS does not take."""
    found: dict[str, str] = {}
    for number, document in enumerate(documents, 1):
        where = f"{path}.Dimensions.member.{number}".lstrip(".")
        name, value = document["Name"], document["Value"]
        if not _PLAIN.fullmatch(name) or not name.strip():
            raise invalid_value(name, f"{where}.Name")
        if not _PLAIN_VALUE.fullmatch(value) or not value.strip():
            raise invalid_value(value, f"{where}.Value")
        if name in found:
            raise AwsError(
                "InvalidParameterValue", f"{where}: the dimension {name} is named more than once."
            )
        found[name] = value
    return found


def _summary(datum: dict[str, Any], path: str) -> Summary:
    given = [name for name in ("Value", "Values", "StatisticValues") if name in datum]
    if not given:
        raise AwsError(
            "MissingParameter",
            f"At least one of the parameters {path}.Value, {path}.Values and"
            f" {path}.StatisticValues must be specified.",
        )
    if len(given) > 1:
        raise AwsError(
            "InvalidParameterCombination",
            f"The parameters {path}.{given[0]} and {path}.{given[1]} are mutually exclusive and you"
            " have specified both.",
        )
    if "Counts" in datum and given != ["Values"]:
        raise AwsError(
            "InvalidParameterCombination", f"{path}.Counts needs the parameter {path}.Values."
        )
    if "StatisticValues" in datum:
        return _statistic_set(datum["StatisticValues"], f"{path}.StatisticValues")
    summary = Summary()
    if "Value" in datum:
        summary.add(read_number(datum["Value"], f"{path}.Value"))
        return summary
    values = datum["Values"]
    counts = datum.get("Counts", [1.0] * len(values))
    if len(counts) != len(values):
        raise AwsError(
            "InvalidParameterValue",
            f"The parameters {path}.Values and {path}.Counts must be of the same size.",
        )
    if not 1 <= len(values) <= VALUES:
        raise AwsError(
            "InvalidParameterValue",
            f"The collection {path}.Values must have a size from 1 to {VALUES}.",
        )
    for value, count in zip(values, counts, strict=True):
        summary.add(read_number(value, f"{path}.Values"), _positive(count, f"{path}.Counts"))
    return summary


def _statistic_set(document: dict[str, float], path: str) -> Summary:
    count = _positive(document["SampleCount"], f"{path}.SampleCount")
    total, minimum, maximum = (
        read_number(document[name], f"{path}.{name}") for name in ("Sum", "Minimum", "Maximum")
    )
    if minimum > maximum:
        raise AwsError(
            "InvalidParameterValue",
            f"The parameter {path}.Maximum must be greater than {path}.Minimum.",
        )
    return Summary.of_set(count, total, minimum, maximum)


def read_number(value: float, path: str) -> float:
    if not -LARGEST <= value <= LARGEST:  # nor is NaN
        raise invalid_value(value, path)
    return value


def _positive(value: float, path: str) -> float:
    if not 0 < value <= LARGEST:
        raise invalid_value(value, path)
    return value


def invalid_value(value: object, path: str) -> AwsError:
    return AwsError("InvalidParameterValue", f"The value {value} for parameter {path} is invalid.")


def _untimely(path: str, bound: str) -> AwsError:
    return AwsError(
        "InvalidParameterValue", f"The parameter {path}.Timestamp must specify a time {bound}."
    )
