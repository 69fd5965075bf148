"""statistics.json: what a dataset holds, column by column.

Schema: SageMaker developer guide, model-monitor-byoc-statistics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.columns import Column, Kind
from sagemaker_byoc.monitor.documents import cell
from sagemaker_byoc.monitor.errors import DataError
from sagemaker_byoc.monitor.sketch import C, K, Sample, Sketch

FILE = "statistics.json"
BUCKETS = 10
"""The guide: can't be changed."""


@dataclass(frozen=True, slots=True)
class Feature:
    """One column, as statistics.json keeps it; of the rest of a Column only reports make use."""

    name: str
    kind: Kind
    present: int
    missing: int
    sample: Sample | None = None
    """Of a numeric column with at least one value."""
    categories: Mapping[str, int] = field(default_factory=dict)
    """Empty also where there were too many to count."""
    mean: float = math.nan
    deviation: float = math.nan
    least: float = math.nan
    most: float = math.nan

    @property
    def completeness(self) -> float:
        whole = self.present + self.missing
        return self.present / whole if whole else 0.0

    @classmethod
    def of(cls, column: Column, kind: Kind | None = None) -> Feature:
        kind = kind or column.inferred
        has_values = kind.is_numeric and column.moments.count > 0
        moments = column.moments
        return cls(
            name=column.name,
            kind=kind,
            present=column.present,
            missing=column.missing,
            sample=column.sketch.sample() if has_values else None,
            categories=dict(column.categories.counts) if kind is Kind.STRING else {},
            mean=moments.mean if has_values else math.nan,
            deviation=moments.deviation if has_values else math.nan,
            least=moments.least if has_values else math.nan,
            most=moments.most if has_values else math.nan,
        )


@dataclass(frozen=True, slots=True)
class Statistics:
    """`outputs` is where a row's outputs stand among the columns, where the baseline knows."""

    rows: int
    features: Mapping[str, Feature]
    outputs: str = ""


def document(rows: int, columns: Sequence[Column], outputs: str = "") -> dict[str, Json]:
    dataset: dict[str, Json] = {"item_count": rows}
    if outputs:
        dataset["output_columns_position"] = outputs
    return {
        "version": 0.0,
        "dataset": dataset,
        "features": [_feature(column) for column in columns],
    }


def _feature(column: Column) -> dict[str, Json]:
    kind = column.kind or column.inferred
    common: dict[str, Json] = {"num_present": column.present, "num_missing": column.missing}
    feature: dict[str, Json] = {"name": column.name, "inferred_type": kind.value}
    if kind.is_numeric and column.moments.count:
        feature["numerical_statistics"] = {"common": common, **_numbers(column)}
    elif kind is Kind.STRING:
        feature["string_statistics"] = {"common": common, **_strings(column)}
    else:
        feature["numerical_statistics" if kind.is_numeric else "string_statistics"] = {
            "common": common
        }
    return feature


def _numbers(column: Column) -> dict[str, Json]:
    moments, sketch = column.moments, column.sketch
    return {
        "mean": _finite(moments.mean),
        "sum": _finite(moments.total),
        "std_dev": _finite(moments.deviation),
        "min": moments.least,
        "max": moments.most,
        "distribution": {
            "kll": {
                "buckets": _buckets(sketch.sample(), moments.least, moments.most),
                "sketch": {
                    "parameters": {"c": sketch.c, "k": float(sketch.k)},
                    "data": [[*level] for level in sketch.document()],
                },
            }
        },
    }


def _finite(value: float) -> Json:
    """JSON has no infinity; AWS's files spell it as a string."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _buckets(sample: Sample, least: float, most: float) -> list[Json]:
    """Equal widths from `least` to `most`, closed on the left, and the last one on both sides."""
    place = np.arange(BUCKETS + 1) / BUCKETS
    edges = least * (1 - place) + most * place  # most - least may be too large for a float
    weights = np.diff(sample.ranks, prepend=0.0)
    bucket = np.clip(np.searchsorted(edges, sample.values, side="right") - 1, 0, BUCKETS - 1)
    counts = np.bincount(bucket, weights=weights, minlength=BUCKETS)
    return [
        {"lower_bound": float(low), "upper_bound": float(high), "count": float(count)}
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True)
    ]


def _strings(column: Column) -> dict[str, Json]:
    categories = column.categories
    found: dict[str, Json] = {"distinct_count": categories.distinct}
    if categories.are_counted:
        buckets: list[Json] = [
            {"value": value, "count": count} for value, count in categories.counts.most_common()
        ]
        found["distribution"] = {"categorical": {"buckets": buckets}}
    return found


# ── reading ──


def parse(found: Mapping[str, Any], where: str) -> Statistics:
    """Files of ours and of AWS. Raises DataError."""
    try:
        dataset = found.get("dataset") or {}
        features = [_parse_feature(each) for each in found.get("features") or ()]
        return Statistics(
            rows=int(dataset.get("item_count") or 0),
            features={each.name: each for each in features},
            outputs=str(dataset.get("output_columns_position") or ""),
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{where} is no statistics.json: {type(error).__name__} {error}",
            cure="Give the file that `byoc monitor baseline` wrote",
        ) from error


def _parse_feature(found: Mapping[str, Any]) -> Feature:
    name, kind = str(found["name"]), Kind(found["inferred_type"])
    numbers, strings = found.get("numerical_statistics"), found.get("string_statistics")
    common = (numbers or strings or {}).get("common") or {}
    present, missing = int(common.get("num_present", 0)), int(common.get("num_missing", 0))
    if numbers:
        return Feature(
            name,
            kind,
            present,
            missing,
            sample=_parse_sample(numbers),
            mean=float(numbers.get("mean", math.nan)),
            deviation=float(numbers.get("std_dev", math.nan)),
            least=float(numbers.get("min", math.nan)),
            most=float(numbers.get("max", math.nan)),
        )
    buckets = ((strings or {}).get("distribution") or {}).get("categorical") or {}
    return Feature(name, kind, present, missing, categories=_parse_counts(buckets))


def _parse_counts(categorical: Mapping[str, Any]) -> Counter[str]:
    """By category, as live traffic spells it: pandas' True is true."""
    found: Counter[str] = Counter()
    for each in categorical.get("buckets") or ():
        found[cell(str(each["value"]))] += int(each["count"])
    return found


def _parse_sample(numbers: Mapping[str, Any]) -> Sample | None:
    kll = (numbers.get("distribution") or {}).get("kll") or {}
    sketch = kll.get("sketch") or {}
    if not sketch.get("data"):
        return None
    parameters = sketch.get("parameters") or {}
    found = Sketch.from_document(
        sketch["data"], int(parameters.get("k", K)), float(parameters.get("c", C))
    )
    return found.sample() if found.count else None
