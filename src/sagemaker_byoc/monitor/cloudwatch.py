"""The metrics that a monitoring job leaves for CloudWatch, one JSON object a line.

Source: developer guide, model-monitor-byoc-cloudwatch and model-monitor-interpreting-cloudwatch.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.monitor.jobs import Outcome

FILE = "cloudwatch_metrics.jsonl"
_FORBIDDEN = re.compile(r"[^\x20-\x7e]|^:")
LONGEST_NAME = 255


def lines(outcome: Outcome, dimensions: Mapping[str, str], now: datetime | None = None) -> bytes:
    """Of the features whose `emit_metrics` is on."""
    shared: dict[str, Json] = {
        "Timestamp": f"{now or datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
        "Dimensions": [{"Name": name, "Value": value} for name, value in dimensions.items()],
    }
    found = ({"MetricName": _name(name), **shared, **value} for name, value in _values(outcome))
    return b"".join(json.dumps(each).encode() + b"\n" for each in found)


def _values(outcome: Outcome) -> Iterator[tuple[str, dict[str, Json]]]:
    constraints = outcome.constraints
    for name, column in outcome.profile.columns.items():
        constraint = constraints.features.get(name)
        config = constraint.config if constraint is not None else constraints.config
        if not config.emits_metrics:
            continue
        moments = column.moments
        is_numeric = (column.kind or column.inferred).is_numeric
        if is_numeric and moments.count and math.isfinite(moments.total):
            yield (
                f"feature_data_{name}",
                {
                    "StatisticValues": {
                        "SampleCount": float(moments.count),
                        "Sum": moments.total,
                        "Minimum": moments.least,
                        "Maximum": moments.most,
                    }
                },
            )
        yield f"feature_non_null_{name}", {"Value": column.completeness}
        drift = outcome.findings.drifts.get(name)
        if drift is not None and math.isfinite(drift.distance):
            yield f"feature_baseline_drift_{name}", {"Value": drift.distance}


def _name(text: str) -> str:
    """CloudWatch takes 255 printable ASCII characters."""
    return _FORBIDDEN.sub("_", text)[:LONGEST_NAME]
