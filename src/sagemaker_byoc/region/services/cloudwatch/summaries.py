"""Summaries of values over a period, and CloudWatch's statistics of them.

Source: CloudWatch user guide, "CloudWatch statistics definitions". A summary keeps the distinct
values and how often each occurred, as PutMetricData's Values and Counts do: up to `DISTINCT` of
them are exact, and more are rounded to steps on a logarithmic scale. No library is used: DDSketch
and t-digest round from the first value on, and their formats on disk need protobuf or numpy, while
a period of the region's metrics rarely has more than a few hundred values.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

DISTINCT = 512
"""Values that one summary distinguishes."""
_FINEST_STEPS = 128
"""Steps per doubling in the first rounding: an error of at most 0.3 %."""
LARGEST = 2.0**360
"""The limit of a value's magnitude [model: PutMetricData]."""


@dataclass(slots=True)
class Summary:
    """A statistic set, with its values if they are known."""

    count: float = 0.0
    total: float = 0.0
    minimum: float = math.inf
    maximum: float = -math.inf
    values: dict[float, float] | None = field(default_factory=dict)
    """Counts by value; None if a statistic set without its values was added."""

    @classmethod
    def of_set(cls, count: float, total: float, minimum: float, maximum: float) -> Summary:
        """Return a summary of values that only their sender knows, unless they are all equal."""
        values = {minimum: count} if minimum == maximum else None
        return cls(count, total, minimum, maximum, values)

    @classmethod
    def of_values(cls, values: Sequence[float]) -> Summary:
        """Return a summary of values, of which there is at least one."""
        counts: dict[float, float] = dict(Counter(values))
        if len(counts) > DISTINCT:
            counts = rounded(counts)
        return cls(len(values), math.fsum(values), min(values), max(values), counts)

    def add(self, value: float, count: float = 1.0) -> None:
        self.count += count
        self.total += value * count
        self.minimum = min(self.minimum, value)
        self.maximum = max(self.maximum, value)
        if self.values is not None:
            self.values[value] = self.values.get(value, 0.0) + count
            if len(self.values) > DISTINCT:
                self.values = rounded(self.values)

    def merge(self, other: Summary) -> None:
        self.count += other.count
        self.total += other.total
        self.minimum = min(self.minimum, other.minimum)
        self.maximum = max(self.maximum, other.maximum)
        if self.values is None or other.values is None:
            self.values = None
            return
        for value, count in other.values.items():
            self.values[value] = self.values.get(value, 0.0) + count
        if len(self.values) > DISTINCT:
            self.values = rounded(self.values)

    def copy(self) -> Summary:
        values = None if self.values is None else dict(self.values)
        return Summary(self.count, self.total, self.minimum, self.maximum, values)

    def pack(self) -> bytes | None:
        """Return the values and counts; None if they follow from the extremes or are unknown."""
        if self.values is None or self.minimum == self.maximum:
            return None
        flat = [number for pair in self.values.items() for number in pair]
        return struct.pack(f"<{len(flat)}d", *flat)

    @classmethod
    def unpack(
        cls, count: float, total: float, minimum: float, maximum: float, packed: bytes | None
    ) -> Summary:
        if packed is None:
            return cls.of_set(count, total, minimum, maximum)
        flat = struct.unpack(f"<{len(packed) // 8}d", packed)
        values = dict(zip(flat[::2], flat[1::2], strict=True))
        return cls(count, total, minimum, maximum, values)


def rounded(values: Mapping[float, float]) -> dict[float, float]:
    """Return at most `DISTINCT` values, rounded on the finest logarithmic scale that suffices.

    None is outside the extremes of `values`.
    """
    steps = float(_FINEST_STEPS)
    while True:
        places: dict[tuple[int, int], float] = {}
        for value, count in values.items():
            # The sign, and the number of the step. Zero has a place of its own.
            place = (
                (1, round(math.log2(value) * steps))
                if value > 0
                else (-1, round(math.log2(-value) * steps))
                if value < 0
                else (0, 0)
            )
            places[place] = places.get(place, 0.0) + count
        if len(places) <= DISTINCT:
            low, high = min(values), max(values)
            return {
                min(max(sign * 2.0 ** (step / steps), low), high): count
                for (sign, step), count in places.items()
            }
        steps /= 2


Statistic: TypeAlias = Callable[[Summary], float | None]
"""A function that returns None for values that are not known."""

SIMPLE: dict[str, Statistic] = {
    "SampleCount": lambda found: found.count,
    "Average": lambda found: found.total / found.count if found.count else None,
    "Sum": lambda found: found.total,
    "Minimum": lambda found: found.minimum,
    "Maximum": lambda found: found.maximum,
}
_SHORT = re.compile(r"(p|tm|tc|ts|wm)([0-9]{1,3}(?:\.[0-9]{1,10})?)")
_NUMBER = r"[0-9]{1,100}(?:\.[0-9]{1,10})?"
_RANGE = re.compile(rf"(TM|TC|TS|WM|PR)\((?:({_NUMBER})(%?))?:(?:({_NUMBER})(%?))?\)")
_PERCENT = 100.0


def parse_statistic(name: str) -> Statistic:
    """Return the function of a statistic: Average, p99.9, tm90, TM(10%:90%), PR(:300), …

    Raise ValueError for a name that CloudWatch does not have.
    """
    if name in SIMPLE:
        return SIMPLE[name]
    if name == "IQM":
        name = "TM(25%:75%)"
    short = _SHORT.fullmatch(name)
    if short is not None:
        percent = float(short[2])
        if percent <= _PERCENT:
            if short[1] == "p":
                return _of_values(lambda values: _percentile(values, percent))
            return _ranged(short[1].upper(), 0.0, percent, is_percent=True)
    found = _RANGE.fullmatch(name)
    if found is not None and (found[2] or found[4]):
        units = {unit for number, unit in ((found[2], found[3]), (found[4], found[5])) if number}
        is_percent = units == {"%"}
        low = float(found[2]) if found[2] else 0.0 if is_percent else -math.inf
        high = float(found[4]) if found[4] else _PERCENT if is_percent else math.inf
        is_possible = high <= _PERCENT and found[1] != "PR" if is_percent else True
        if len(units) == 1 and low < high and is_possible:
            return _ranged(found[1], low, high, is_percent=is_percent)
    raise ValueError(name)


Pairs: TypeAlias = list[tuple[float, float]]
"""Values in rising order, each with its count."""


def _of_values(function: Callable[[Pairs], float | None]) -> Statistic:
    """Return a statistic of the values; None without them, or if one is negative."""

    def statistic(found: Summary) -> float | None:
        if found.values is None or found.minimum < 0 or not found.count:
            return None
        return function(sorted(found.values.items()))

    return statistic


def _percentile(values: Pairs, percent: float) -> float:
    """Return the smallest value that at least `percent` of all are not above."""
    rank = _count(values) * percent / _PERCENT
    reached = 0.0
    for value, count in values:
        reached += count
        if reached >= rank:
            return value
    return values[-1][0]


def _ranged(kind: str, low: float, high: float, *, is_percent: bool) -> Statistic:
    def function(values: Pairs) -> float | None:
        total = _count(values)
        inside = (
            list(_between_ranks(values, total * low / _PERCENT, total * high / _PERCENT))
            if is_percent
            else [(value, count) for value, count in values if low < value <= high]
        )
        count = _count(inside)
        match kind:
            case "TC":
                return count
            case "TS":
                return _sum(inside)
            case "PR":
                return count / total * _PERCENT
            case "TM":
                return _sum(inside) / count if count else None
        if is_percent:
            least, most = _percentile(values, low), _percentile(values, high)
        else:
            least, most = max(low, values[0][0]), min(high, values[-1][0])
        return sum(min(max(value, least), most) * count for value, count in values) / total

    return _of_values(function)


def _between_ranks(values: Pairs, low: float, high: float) -> Iterable[tuple[float, float]]:
    """Yield the values of the ranks from `low` to `high`; a value may be there in part."""
    reached = 0.0
    for value, count in values:
        part = min(reached + count, high) - max(reached, low)
        reached += count
        if part > 0:
            yield value, part


def _count(values: Pairs) -> float:
    return sum(count for _, count in values)


def _sum(values: Pairs) -> float:
    return sum(value * count for value, count in values)
