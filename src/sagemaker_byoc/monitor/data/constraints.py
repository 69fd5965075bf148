"""constraints.json: what a dataset must be like, suggested from a baseline and edited by hand.

Schema: SageMaker developer guide, model-monitor-byoc-constraints. Where its spellings differ from
those in files that AWS's analyzer wrote, both are read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.data.columns import Column, Kind, kept
from sagemaker_byoc.monitor.inputs.documents import folded
from sagemaker_byoc.monitor.inputs.streams import DataError

FILE = "constraints.json"
SMALL_DOMAIN = 100
"""Distinct values up to which a column of text gets a domain; AWS says "for small cardinality".
Numbers with some text among them are not categories, and get none."""
_OVERRIDES = ("monitoringConfigOverrides", "monitoring_config_overrides")


class Method(StrEnum):
    """How a numeric column is compared, and L∞ over categories."""

    SIMPLE = "Simple"
    ROBUST = "Robust"


class CategoryMethod(StrEnum):
    L_INFINITY = "LInfinity"
    CHI_SQUARED = "ChiSquared"


@dataclass(frozen=True, slots=True)
class Config:
    """`monitoring_config`, of the dataset or of one feature.

    `type_share` and `domain_share` are the least share of values that must fit: AWS's analyzer
    writes 1.0, and reports "Expected match: 100.0%". (The guide's 0.1 would be the opposite.)
    """

    evaluates: bool = True
    emits_metrics: bool = True
    type_share: float = 1.0
    domain_share: float = 1.0
    compares: bool = True
    threshold: float = 0.1
    method: Method = Method.ROBUST
    category_threshold: float = 0.1
    category_method: CategoryMethod = CategoryMethod.L_INFINITY


@dataclass(frozen=True, slots=True)
class Constraint:
    """Constraints on one feature. `completeness` is the least share of cells that are not empty."""

    name: str
    kind: Kind
    completeness: float | None = None
    is_non_negative: bool = False
    domain: frozenset[str] = frozenset()
    config: Config = field(default_factory=Config)


@dataclass(frozen=True, slots=True)
class Constraints:
    features: Mapping[str, Constraint]
    config: Config = field(default_factory=Config)

    @property
    def kinds(self) -> dict[str, Kind]:
        return {name: each.kind for name, each in self.features.items()}


def suggest(columns: Sequence[Column]) -> dict[str, Json]:
    """Return constraints that the dataset itself never violates."""
    return {
        "version": 0.0,
        "features": [_suggest(column) for column in columns],
        "monitoring_config": {
            "evaluate_constraints": "Enabled",
            "emit_metrics": "Enabled",
            "datatype_check_threshold": 1.0,
            "domain_content_threshold": 1.0,
            "distribution_constraints": {
                "perform_comparison": "Enabled",
                "comparison_threshold": 0.1,
                "comparison_method": Method.ROBUST.value,
                "categorical_comparison_threshold": 0.1,
                "categorical_drift_method": CategoryMethod.L_INFINITY.value,
            },
        },
    }


def _suggest(column: Column) -> dict[str, Json]:
    kind, categories = column.inferred, column.categories
    feature: dict[str, Json] = {
        "name": column.name,
        "inferred_type": kind.value,
        "completeness": column.completeness,
    }
    if kind.is_numeric:
        feature["num_constraints"] = {"is_non_negative": column.moments.least >= 0}
    is_small = categories.are_counted and len(categories.counts) <= SMALL_DOMAIN
    if kind is Kind.STRING and is_small and not column.is_mostly_numbers:
        feature["string_constraints"] = {"domains": [*categories.counts]}
    return feature


# ── reading ──


def parse(found: Mapping[str, Any], where: str) -> Constraints:
    """Parse a file of this project or of AWS. Raise DataError, naming the key."""
    try:
        config = _config(found.get("monitoring_config") or {}, Config())
        features = [_constraint(each, config) for each in found.get("features") or ()]
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise DataError(
            f"{where} is not a valid constraints.json: {type(error).__name__} {error}",
            hint="Keep to the keys and values of the file that `byoc monitor baseline` wrote",
        ) from error
    return Constraints({each.name: each for each in features}, config)


def _constraint(found: Mapping[str, Any], config: Config) -> Constraint:
    strings = found.get("string_constraints") or {}
    for place in (strings, found):
        for key in _OVERRIDES:
            config = _config(place.get(key) or {}, config)
    completeness = found.get("completeness")
    return Constraint(
        name=str(found["name"]),
        kind=Kind(found["inferred_type"]),
        completeness=None if completeness is None else _number(found, "completeness", 1.0),
        is_non_negative=bool((found.get("num_constraints") or {}).get("is_non_negative")),
        domain=frozenset(map(kept, folded([*map(str, strings.get("domains") or ())]))),
        config=config,
    )


def _config(found: Mapping[str, Any], base: Config) -> Config:
    """Return `base`, overridden by what `found` has."""
    drift = {**(found.get("distribution_constraints") or {})}
    threshold = _number(drift, "comparison_threshold", base.threshold)
    same = "comparison_threshold" in drift and "categorical_comparison_threshold" not in drift
    method = drift.get("comparison_method", drift.get("comparion_method", base.method))
    return Config(
        evaluates=_switch(found.get("evaluate_constraints"), default=base.evaluates),
        emits_metrics=_switch(found.get("emit_metrics"), default=base.emits_metrics),
        type_share=_number(found, "datatype_check_threshold", base.type_share),
        domain_share=_number(found, "domain_content_threshold", base.domain_share),
        compares=_switch(
            drift.get("perform_comparison", drift.get("enable_comparisons")), default=base.compares
        ),
        threshold=threshold,
        method=Method(method),
        category_threshold=threshold
        if same
        else _number(drift, "categorical_comparison_threshold", base.category_threshold),
        category_method=CategoryMethod(drift.get("categorical_drift_method", base.category_method)),
    )


def _number(found: Mapping[str, Any], key: str, default: float) -> float:
    value = found.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError(f"{key} is {value!r}, not a number from 0 to 1")
    return float(value)


def _switch(value: object, *, default: bool) -> bool:
    """Parse `Enabled` or `Disabled`; older files have true and false."""
    if value is None:
        return default
    known = {"Enabled": True, "Disabled": False, True: True, False: False}
    if not isinstance(value, str | bool) or value not in known:
        raise ValueError(f"a switch is {value!r}, not Enabled or Disabled")
    return known[value]
