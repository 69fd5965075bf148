"""The name of a metric."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

Dimensions: TypeAlias = tuple[tuple[str, str], ...]
"""Names and values, sorted."""

NO_UNIT = "None"
"""AWS's word for the unit of values without one."""


@dataclass(frozen=True, slots=True)
class Metric:
    """A namespace, a name and a set of dimensions: other dimensions make another metric."""

    namespace: str
    name: str
    dimensions: Dimensions

    @classmethod
    def of(cls, namespace: str, name: str, dimensions: Mapping[str, str]) -> Metric:
        return cls(namespace, name, tuple(sorted(dimensions.items())))
