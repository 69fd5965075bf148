"""Search expressions: which documents of a kind satisfy one, by the types of AWS's model.

A property is named by its path in the documents, such as `InputDataConfig.DataSource.S3DataSource
.S3Uri`; a list on the way stands for each of its items. `Tags.KEY`, `HyperParameters.NAME` and
`Metrics.NAME` look an entry up. Source: service model, Filter, NestedFilters, SearchExpression.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import ge, gt, le, lt
from typing import Any, TypeAlias

from botocore.model import ListShape, MapShape, Shape, StructureShape

from sagemaker_byoc.region.services.sagemaker.resources import invalid
from sagemaker_byoc.region.wire.operations import Parameters

MOST_CONDITIONS = 50
"""Filters, nested filters and subexpressions of a whole expression (service model: Search)."""
METRICS = "Metrics"
"""Stands for FinalMetricDataList."""
_ENTRIES = {"Tags": ("Key", "Value"), METRICS: ("MetricName", "Value")}
"""Lists that are looked up like maps: the members of an entry with its name and its value."""
_ORDERED: dict[str, Callable[[Any, Any], bool]] = {
    "GreaterThan": gt,
    "GreaterThanOrEqualTo": ge,
    "LessThan": lt,
    "LessThanOrEqualTo": le,
}
_NUMBERS = frozenset({"integer", "long", "float", "double"})
_TEXT, _NUMBER, _TIME, _BOOLEAN, _ANY = "text", "number", "timestamp", "Boolean", "structure"

Test: TypeAlias = Callable[[Parameters], bool]


# ── properties ──


@dataclass(frozen=True, slots=True)
class Property:
    """A property that the documents of a kind can have."""

    name: str
    path: tuple[str, ...]
    """Members from the top of a document; the last may be the name of an entry."""
    type: str
    """text, number, timestamp, Boolean; `structure` for what has members."""
    is_entry: bool = False
    """Whether it is an entry of a map or of tags, whose text may be a number."""

    def values(self, document: Parameters) -> list[Any]:
        """Return all its values in a document; several if lists are on the way."""
        return [*_values(document, self.path)]


def find_property(shape: StructureShape, name: str) -> Property:
    """Return the property `name` of a kind whose documents have `shape`.

    Raise AwsError, in SageMaker's words, if it has none.
    """
    words = name.split(".")
    found: Shape = shape
    for number, word in enumerate(words):
        while isinstance(found, ListShape):
            found = found.member
        above, below = tuple(words[:number]), ".".join(words[number + 1 :])
        if isinstance(found, MapShape):
            path = (*above, ".".join(words[number:]))
            return Property(name, path, _kind(found.value), is_entry=True)
        _require(isinstance(found, StructureShape), name)
        if word in _ENTRIES and below:
            _require(word in found.members or _has_metrics(word, found), name)
            kind = _NUMBER if word == METRICS else _TEXT
            return Property(name, (*above, word, below), kind, is_entry=True)
        _require(word in found.members, name)
        found = found.members[word]
    return Property(name, tuple(words), _kind(found))


def _has_metrics(word: str, shape: Shape) -> bool:
    return word == METRICS and "FinalMetricDataList" in getattr(shape, "members", {})


def _require(condition: bool, name: str) -> None:  # noqa: FBT001 - as an assert
    if not condition:
        raise invalid(f"Unknown property name: {name}")


def _kind(shape: Shape) -> str:
    while isinstance(shape, ListShape):
        shape = shape.member
    if shape.type_name in _NUMBERS:
        return _NUMBER
    return {"string": _TEXT, "timestamp": _TIME, "boolean": _BOOLEAN}.get(shape.type_name, _ANY)


def property_names(shape: StructureShape) -> Iterator[str]:
    """Yield the names of all properties; an entry's ends with a dot: `HyperParameters.`."""
    yield from _names(shape, "", frozenset())
    if _has_metrics(METRICS, shape):
        yield f"{METRICS}."


def _names(shape: Shape, prefix: str, above: frozenset[str]) -> Iterator[str]:
    while isinstance(shape, ListShape):
        shape = shape.member
    if isinstance(shape, MapShape):
        yield f"{prefix}."
    elif not isinstance(shape, StructureShape):
        yield prefix
    elif shape.name not in above:
        for name, member in shape.members.items():
            path = f"{prefix}.{name}" if prefix else name
            if name in _ENTRIES:
                yield f"{path}."
            else:
                yield from _names(member, path, above | {shape.name})


def _values(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(value, list):
        for item in value:
            yield from _values(item, path)
    elif not path:
        yield value
    elif isinstance(value, Mapping):
        first, rest = path[0], path[1:]
        if first in _ENTRIES and rest:
            name, member = _ENTRIES[first]
            entries = value.get("FinalMetricDataList" if first == METRICS else first, [])
            yield from (each[member] for each in entries if each.get(name) == rest[0])
        elif first in value:
            yield from _values(value[first], rest)


# ── expressions ──


def compile_expression(shape: StructureShape, expression: Parameters) -> Test:
    """Return what tells whether a document of `shape` satisfies the SearchExpression.

    An empty expression is satisfied by all. Raise AwsError if it is not valid.
    """
    if _count(expression) > MOST_CONDITIONS:
        raise invalid(
            f"A SearchExpression has at most {MOST_CONDITIONS} filters, nested filters and "
            f"subexpressions, not {_count(expression)}"
        )
    if sum(_contains(expression)) > 1:
        raise invalid("'CONTAINS' operator usage limit of 1 exceeded.")
    return _expression(shape, expression)


def _count(expression: Parameters) -> int:
    nested = expression.get("NestedFilters", [])
    return (
        len(expression.get("Filters", []))
        + sum(1 + len(each["Filters"]) for each in nested)
        + sum(1 + _count(each) for each in expression.get("SubExpressions", []))
    )


def _contains(expression: Parameters) -> Iterator[bool]:
    """Yield, for each filter but those on tags, whether it has the operator Contains."""
    filters = [*expression.get("Filters", [])]
    filters += [
        each for nested in expression.get("NestedFilters", []) for each in nested["Filters"]
    ]
    for each in filters:
        yield each.get("Operator") == "Contains" and not each["Name"].startswith("Tags.")
    for part in expression.get("SubExpressions", []):
        yield from _contains(part)


def _expression(shape: StructureShape, expression: Parameters) -> Test:
    tests = [_filter(shape, each) for each in expression.get("Filters", [])]
    tests += [_nested(shape, each) for each in expression.get("NestedFilters", [])]
    tests += [_expression(shape, each) for each in expression.get("SubExpressions", [])]
    if not tests:
        return lambda _: True
    combine = any if expression.get("Operator") == "Or" else all
    return lambda document: combine(test(document) for test in tests)


def _nested(shape: StructureShape, nested: Parameters) -> Test:
    """Return what tells whether one item of a list satisfies all the filters."""
    top = find_property(shape, nested["NestedPropertyName"])
    item = _item_shape(shape, top)
    prefix = f"{top.name}."
    filters = nested["Filters"]
    for each in filters:
        if not each["Name"].startswith(prefix):
            raise invalid(
                f"The filter on {each['Name']} is not about NestedPropertyName {top.name}: its "
                f"name begins with {prefix}"
            )
    tests = [_filter(item, {**each, "Name": each["Name"].removeprefix(prefix)}) for each in filters]

    def holds(document: Parameters) -> bool:
        return any(all(test(each) for test in tests) for each in top.values(document))

    return holds


def _item_shape(shape: StructureShape, top: Property) -> StructureShape:
    found: Shape = shape
    for word in () if top.is_entry else top.path:  # an entry has one value
        while isinstance(found, ListShape):
            found = found.member
        assert isinstance(found, StructureShape)
        found = found.members[word]
    is_list = isinstance(found, ListShape)
    while isinstance(found, ListShape):
        found = found.member
    if not (is_list and isinstance(found, StructureShape)):
        raise invalid(f"NestedPropertyName {top.name} is not a list of structures")
    return found


def _filter(shape: StructureShape, condition: Parameters) -> Test:
    name, operator = condition["Name"], condition.get("Operator", "Equals")
    found = find_property(shape, name)
    if operator in {"Exists", "NotExists"}:
        return lambda document: bool(found.values(document)) is (operator == "Exists")
    if "Value" not in condition:
        raise invalid(f"The filter on {name} with the operator {operator} needs a Value")
    value = condition["Value"]
    if found.type == _ANY:
        raise invalid(f"{name} has members: filter on one of them, such as {name}.NAME")
    if operator in _ORDERED:
        return _ordering(found, operator, value)
    if operator in {"Contains", "In"}:
        return _text_test(found, operator, value)
    expected = _typed(found, value)

    def is_equal(document: Parameters) -> bool:
        return any(_comparable(found, each) == expected for each in found.values(document))

    return is_equal if operator == "Equals" else lambda document: not is_equal(document)


def _text_test(found: Property, operator: str, value: str) -> Test:
    if found.type != _TEXT:
        raise invalid(
            f"The operator {operator} is only supported for text properties: {found.name}"
        )
    if operator == "Contains":
        return lambda document: any(value in each for each in found.values(document))
    words = {word.strip() for word in value.split(",")}
    return lambda document: any(each in words for each in found.values(document))


def _ordering(found: Property, operator: str, value: str) -> Test:
    """Compare numbers, times and, for entries such as HyperParameters.NAME, texts of numbers."""
    if found.type == _BOOLEAN or (found.type == _TEXT and not found.is_entry):
        raise invalid(
            f"The operator {operator} is not supported for {found.type} properties: {found.name}"
        )
    compare = _ORDERED[operator]
    expected = _number(found, value) if found.type == _TEXT else _typed(found, value)

    def holds(each: Any) -> bool:
        with suppress(ValueError, TypeError):
            return compare(float(each) if found.type == _TEXT else each, expected)
        return False

    return lambda document: any(holds(each) for each in found.values(document))


def _typed(found: Property, value: str) -> Any:
    match found.type:
        case "number":
            return _number(found, value)
        case "timestamp":
            return _time(found, value)
        case "Boolean":
            if value.lower() not in {"true", "false"}:
                raise invalid(f"Value {value} of the filter on {found.name} is not true or false")
            return value.lower() == "true"
    return value


def _comparable(found: Property, value: Any) -> Any:
    return float(value) if found.type == _NUMBER else value


def _number(found: Property, value: str) -> float:
    try:
        return float(value)
    except ValueError as error:
        raise invalid(f"Value {value} of the filter on {found.name} is not a number") from error


def _time(found: Property, value: str) -> datetime:
    try:
        time = datetime.fromisoformat(value)
    except ValueError as error:
        raise invalid(
            f"Value {value} of the filter on {found.name} is not an ISO 8601 time, such as "
            "2026-11-30T12:00:00"
        ) from error
    return time if time.tzinfo is not None else time.replace(tzinfo=UTC)


# ── order ──


def sort_text(found: Property, document: Parameters) -> str:
    """Return a text by which documents sort as by the property's first value; "" without one."""
    values = found.values(document)
    if not values:
        return ""
    value = values[0]
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat(timespec="microseconds")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value)
    (bits,) = struct.unpack(">q", struct.pack(">d", value))
    # The bits of positive doubles sort as their values do, those of negative ones the other way.
    return f"{bits + (1 << 63) if bits >= 0 else ~bits:016x}"
