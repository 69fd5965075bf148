"""The metric line: one definition that trainers print, that the local side parses and that is
sent to SageMaker as MetricDefinitions.

A line is `name=value; name=value;` with any text before it. SageMaker searches each definition's
regex in every log line and keeps group 1 as a float (developer guide: training-metrics).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

from sagemaker_byoc.contract import limits
from sagemaker_byoc.contract.errors import ContractError

NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?|nan|-?inf"
NAME = r"[A-Za-z_][A-Za-z0-9_.:/\-]*"
PAIR = re.compile(rf"(?:^|\s)({NAME})=({NUMBER});")


def format_line(values: Mapping[str, float]) -> str:
    """One log line for `values`, in their order; nine significant digits, which keep a float32."""
    return " ".join([f"{checked_name(name)}={value:.9g};" for name, value in values.items()])


def parse_line(line: str) -> dict[str, float]:
    """Every `name=value;` pair of a log line; empty when there is none."""
    return {name: float(value) for name, value in PAIR.findall(line)}


def definition(name: str) -> dict[str, str]:
    """The MetricDefinition that finds `name` in lines made by `format_line`."""
    regex = rf"(?:^|\s){re.escape(name)}=({NUMBER});"
    if len(regex) > limits.METRIC_REGEX.value or len(name) > limits.METRIC_NAME.value:
        raise ContractError(
            where=f"metric {name!r}",
            what=f"is longer than SageMaker's limit of {limits.METRIC_REGEX.value} for a regex",
            hint="Use a shorter name",
        )
    return {"Name": name, "Regex": regex}


@functools.lru_cache(1024)
def checked_name(name: object) -> str:
    """Return the name of a metric; raise ContractError for one that no line can hold."""
    if not isinstance(name, str) or not re.fullmatch(NAME, name):
        raise ContractError(
            where=f"metric {name!r}",
            what="is not a legal metric name",
            hint=f"Use letters, digits and . : / - _ as in {NAME}",
        )
    return name
