"""statistics.json: what a dataset holds, column by column.

Schema: SageMaker developer guide, model-monitor-byoc-statistics.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import numpy as np

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.data.columns import Column, Kind, kept
from sagemaker_byoc.monitor.data.distributions import C, K, Sample, Sketch
from sagemaker_byoc.monitor.inputs.documents import cell
from sagemaker_byoc.monitor.inputs.layout import Block
from sagemaker_byoc.monitor.inputs.streams import DataError

FILE = "statistics.json"
BUCKETS = 10
"""The guide: can't be changed."""
ORIGIN = "byoc"
"""A key of this project: when the file was made, and from what."""
LONGEST_ORIGIN = 1024


@dataclass(frozen=True, slots=True)
class Feature:
    """One column, as statistics.json keeps it; only reports use the rest of a Column."""

    name: str
    kind: Kind
    present: int
    missing: int
    sample: Sample | None = None
    """The numbers of a numeric column, or of a column of text that is mostly numbers."""
    numbers: int = 0
    """How many values are numbers; only counted if there is a sample."""
    categories: Mapping[str, int] = field(default_factory=dict)
    """Empty also if there were too many to count."""
    lengths: Sample | None = None
    """Characters of the values, if most values are different."""
    hashes: Mapping[int, int] = field(default_factory=dict)
    """Counts of the values with the smallest hashes, if there are too many to count all."""
    mean: float = math.nan
    deviation: float = math.nan
    least: float = math.nan
    most: float = math.nan

    @property
    def completeness(self) -> float:
        whole = self.present + self.missing
        return self.present / whole if whole else 0.0

    @property
    def is_mixed(self) -> bool:
        return self.kind is Kind.STRING and self.sample is not None

    @classmethod
    def of(cls, column: Column, kind: Kind | None = None) -> Feature:
        kind = kind or column.inferred
        is_text = kind is Kind.STRING
        has_values = column.moments.count > 0 and (
            kind.is_numeric or column.has_numbers or column.is_mostly_numbers
        )
        moments = column.moments
        return cls(
            name=column.name,
            kind=kind,
            present=column.present,
            missing=column.missing,
            sample=column.sketch.sample() if has_values else None,
            numbers=column.numbers if has_values else 0,
            categories=dict(column.categories.counts) if is_text else {},
            lengths=_lengths(column) if is_text else None,
            hashes={**(column.categories.hashes or {})} if is_text else {},
            mean=moments.mean if has_values else math.nan,
            deviation=moments.deviation if has_values else math.nan,
            least=moments.least if has_values else math.nan,
            most=moments.most if has_values else math.nan,
        )


def _lengths(column: Column) -> Sample | None:
    has_lengths = column.is_mostly_unique and column.lengths.count > 0
    return column.lengths.sample() if has_lengths else None


@dataclass(frozen=True, slots=True)
class Statistics:
    """`outputs` is where a row's outputs stand among the columns, if the baseline knows."""

    rows: int
    features: Mapping[str, Feature]
    outputs: str = ""

    @property
    def mixed(self) -> list[str]:
        """Columns of text whose numbers are compared as numbers."""
        return [each.name for each in self.features.values() if each.is_mixed]


def origin(source: str) -> dict[str, Json]:
    """Return when a baseline was made, and from what: reports name both."""
    return {"made": f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC", "source": source[:LONGEST_ORIGIN]}


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
        if column.moments.count and (column.has_numbers or column.is_mostly_numbers):
            whole = column.present + column.missing
            part: dict[str, Json] = {
                "num_present": column.numbers,
                "num_missing": whole - column.numbers,
            }
            feature["numerical_statistics"] = {"common": part, **_numbers(column)}
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
        "distribution": _distribution(sketch, moments.least, moments.most),
    }


def _distribution(sketch: Sketch, least: float, most: float) -> dict[str, Json]:
    return {
        "kll": {
            "buckets": _buckets(sketch.sample(), least, most),
            "sketch": {
                "parameters": {"c": sketch.c, "k": float(sketch.k)},
                "data": [[*level] for level in sketch.document()],
            },
        }
    }


def _finite(value: float) -> Json:
    """Return a JSON value: JSON has no infinity, and AWS's files spell it as a string."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")


def _buckets(sample: Sample, least: float, most: float) -> list[Json]:
    """Return buckets of equal widths, closed on the left, and the last one on both sides."""
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
    if categories.hashes:
        found["hashes"] = {str(each): count for each, count in categories.hashes.items()}
    if (lengths := _lengths(column)) is not None:
        least, most = float(lengths.values[0]), float(lengths.values[-1])
        found["lengths"] = {"distribution": _distribution(column.lengths, least, most)}
    return found


# ── reading ──


def parse(found: Mapping[str, Any], where: str) -> Statistics:
    """Parse a file of this project or of AWS. Raise DataError."""
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
            f"{where} is not a valid statistics.json: {type(error).__name__} {error}",
            hint="Give the file that `byoc monitor baseline` wrote",
        ) from error


def _parse_feature(found: Mapping[str, Any]) -> Feature:
    name, kind = str(found["name"]), Kind(found["inferred_type"])
    numbers = found.get("numerical_statistics") or {}
    strings = found.get("string_statistics") or {}
    first, second = (strings, numbers) if kind is Kind.STRING else (numbers, strings)
    common = (first or second).get("common") or {}
    buckets = (strings.get("distribution") or {}).get("categorical") or {}
    return Feature(
        name,
        kind,
        int(common.get("num_present", 0)),
        int(common.get("num_missing", 0)),
        sample=_parse_sample(numbers),
        numbers=int((numbers.get("common") or {}).get("num_present", 0)),
        categories=_parse_counts(buckets),
        lengths=_parse_sample(strings.get("lengths") or {}),
        hashes={int(each): int(count) for each, count in (strings.get("hashes") or {}).items()},
        mean=float(numbers.get("mean", math.nan)),
        deviation=float(numbers.get("std_dev", math.nan)),
        least=float(numbers.get("min", math.nan)),
        most=float(numbers.get("max", math.nan)),
    )


def _parse_counts(categorical: Mapping[str, Any]) -> Counter[str]:
    """Return counts by category, as live traffic spells it: pandas' True is true."""
    found: Counter[str] = Counter()
    for each in categorical.get("buckets") or ():
        found[kept(cell(str(each["value"])))] += int(each["count"])
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


# ── as rows stream by ──


MOST_COLUMNS = 20_000


class Profile:
    """The columns of rows that stream by: memory is bounded by their number, not by the rows."""

    def __init__(
        self,
        kinds: Mapping[str, Kind] | None = None,
        categories: Mapping[str, frozenset[str]] | None = None,
        mixed: Iterable[str] = (),
    ) -> None:
        """`categories` are those that the baseline counted, by column; `mixed` the columns of text
        whose numbers are compared.
        """
        self.expected = tuple(kinds) if kinds is not None else None
        self.columns = {
            name: Column(name, kind=_kept(kind)) for name, kind in (kinds or {}).items()
        }
        for name, known in (categories or {}).items():
            if name in self.columns:
                self.columns[name].categories.known = known
        for name in mixed:
            if name in self.columns:
                self.columns[name].has_numbers = True
        self.seen: set[str] = set()
        """Names that at least one row had."""
        self.rows = 0

    def add(self, block: Block) -> None:
        for name, cells in zip(block.names, block.columns, strict=True):
            column = self.columns.get(name) or self._new(name)
            column.add(cells)
        self.seen.update(block.names)
        self.rows += block.rows
        if len(block.names) < len(self.columns):
            for name in self.columns.keys() - set(block.names):
                self.columns[name].missing += block.rows

    def _new(self, name: str) -> Column:
        if len(self.columns) >= MOST_COLUMNS:
            raise DataError(
                f"there are more than {MOST_COLUMNS} columns",
                hint="Let a preprocess_handler pick those that are worth watching",
            )
        column = self.columns[name] = Column(name, missing=self.rows)
        return column

    @property
    def missing(self) -> list[str]:
        return [name for name in self.expected or () if name not in self.seen]

    @property
    def extra(self) -> list[str]:
        known = set(self.expected or self.columns)
        return [name for name in self.columns if name not in known]


def _kept(kind: Kind) -> Kind | None:
    """A column that was empty in the baseline may hold anything now."""
    return None if kind is Kind.UNKNOWN else kind
