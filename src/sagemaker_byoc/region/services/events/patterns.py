"""Event patterns: the grammar of EventBridge's content filters, compiled to functions of an event.

Source: EventBridge user guide, "Comparison operators for use in event patterns". A pattern has the
structure of the events that it matches; each of its lists has the values, or the conditions, of
which one must hold. A list in an event matches if one of its elements does.
"""

from __future__ import annotations

import ipaddress
import json
import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeAlias

from sagemaker_byoc.region.wire.operations import AwsError

Pattern: TypeAlias = Callable[[Mapping[str, Any]], bool]
"""Returns whether an event, or an object in it, matches."""
_Test: TypeAlias = Callable[[Any], bool]
"""Returns whether one scalar of an event matches."""
_Values: TypeAlias = Callable[[list[Any]], bool]
"""Returns whether the scalars of one member match; there is none if the member is absent."""

DEEPEST = 100
"""Nesting of a pattern; the largest that EventBridge accepts is not documented."""
MOST_NUMBER = 5_000_000_000
"""Numbers of `numeric` are within this range [guide]."""
_COMPARE: Mapping[str, Callable[[Any, Any], bool]] = {
    "=": operator.eq,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}


def compile_pattern(text: str) -> Pattern:
    """Return what tells whether an event matches. Raise AwsError."""
    try:
        pattern = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _invalid("Invalid JSON") from error
    if not isinstance(pattern, dict):
        raise _invalid("Filter is not an object")
    return _object(pattern, 1)


def _invalid(reason: str) -> AwsError:
    return AwsError("InvalidEventPatternException", f"Event pattern is not valid. Reason: {reason}")


def _object(pattern: Mapping[str, Any], depth: int, *, in_or: bool = False) -> Pattern:
    if not pattern:
        raise _invalid("Empty objects are not allowed")
    if depth > DEEPEST:
        raise _invalid(f"It is nested deeper than {DEEPEST} levels")
    parts = [_member(key, value, depth, in_or=in_or) for key, value in pattern.items()]

    def matches(event: Mapping[str, Any]) -> bool:
        for part in parts:  # noqa: SIM110 - each rule does this for each event
            if not part(event):
                return False
        return True

    return matches


def _member(key: str, value: object, depth: int, *, in_or: bool) -> Pattern:
    if key == "$or":
        return _or(value, depth)
    if in_or and key in _CONDITIONS:
        raise _invalid(f"{key} is reserved and cannot be used inside $or")
    if isinstance(value, dict):
        below = _object(value, depth + 1, in_or=in_or)
        return lambda event: any(below(item) for item in _objects(event.get(key)))
    if isinstance(value, list):
        return _leaf(key, value)
    raise _invalid(f'"{key}" must be an object or an array')


def _or(value: object, depth: int) -> Pattern:
    if not isinstance(value, list):
        raise _invalid("It must be an Array followed with $or.")
    if not all(isinstance(each, dict) for each in value):
        raise _invalid("Only JSON object is allowed in array of $or relationship.")
    if len(value) < 2:
        raise _invalid("There must have at least 2 Objects in $or relationship.")
    ways = [_object(each, depth + 1, in_or=True) for each in value]
    return lambda event: any(way(event) for way in ways)


def _objects(value: object) -> Iterable[Mapping[str, Any]]:
    """Return what a nested pattern is compared with: absent members are those of an empty one."""
    if isinstance(value, dict):
        return (value,)
    found = [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
    return found or ({},)


def _scalars(event: Mapping[str, Any], key: str) -> Iterable[Any]:
    if key not in event:
        return
    waiting = [event[key]]
    while waiting:
        value = waiting.pop()
        if isinstance(value, list):
            waiting.extend(value)
        elif not isinstance(value, dict):
            yield value


# ── the list of a member ──


def _leaf(key: str, values: list[Any]) -> Pattern:
    """Return what tells whether the member `key` matches. Texts, the usual case, are looked up."""
    if not values:
        raise _invalid("Empty arrays are not allowed")
    texts = frozenset(each for each in values if isinstance(each, str))
    ways = [_value(each) for each in values if not isinstance(each, str)]

    def matches(event: Mapping[str, Any]) -> bool:
        value = event.get(key)
        if isinstance(value, str):
            if value in texts:
                return True
            found: list[Any] = [value]
        else:
            found = [*_scalars(event, key)]
            if any(isinstance(each, str) and each in texts for each in found):
                return True
        return any(way(found) for way in ways) if ways else False

    return matches


def _value(value: object) -> _Values:
    if isinstance(value, list):
        raise _invalid("Match value must be String, number, true, false, or null")
    if not isinstance(value, dict):
        return _any(_equals(value))
    if len(value) != 1:
        text = "Only one key allowed in match expression"
        raise _invalid(text if value else "Match expression name not found")
    ((name, operand),) = value.items()
    if name == "exists":
        return _exists(operand)
    if name not in _CONDITIONS:
        raise _invalid(f"Unrecognized match type {name}")
    return _any(_CONDITIONS[name](operand))


def _any(test: _Test) -> _Values:
    return lambda found: any(test(each) for each in found)


def _exists(operand: object) -> _Values:
    if not isinstance(operand, bool):
        raise _invalid("exists match pattern must be either true or false.")
    return lambda found: bool(found) is operand


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _equals(wanted: object) -> _Test:
    kind = type(wanted)
    if _is_number(wanted):
        return lambda value: _is_number(value) and value == wanted
    return lambda value: type(value) is kind and value == wanted


def _of_text(test: Callable[[str], bool]) -> _Test:
    return lambda value: isinstance(value, str) and test(value)


def _text(operand: object, name: str) -> str:
    if not isinstance(operand, str):
        raise _invalid(f"{name} match pattern must be a string")
    if not operand and name != "equals-ignore-case":
        raise _invalid("Null prefix/suffix/wildcard not allowed")
    return operand


def _folded(operand: object, name: str) -> tuple[str, Callable[[str], str]]:
    """Return the text of `prefix` or `suffix`, and what a value is turned into before."""
    if isinstance(operand, dict) and [*operand] == ["equals-ignore-case"]:
        return _text(operand["equals-ignore-case"], name).lower(), str.lower
    return _text(operand, name), str


def _prefix(operand: object) -> _Test:
    text, fold = _folded(operand, "prefix")
    return _of_text(lambda value: fold(value).startswith(text))


def _suffix(operand: object) -> _Test:
    text, fold = _folded(operand, "suffix")
    return _of_text(lambda value: fold(value).endswith(text))


def _equals_ignore_case(operand: object) -> _Test:
    text = _text(operand, "equals-ignore-case").lower()
    return _of_text(lambda value: value.lower() == text)


def _wildcard(operand: object) -> _Test:
    """Compare the parts between asterisks from left to right: the time is bounded."""
    first, *rest = _parts(_text(operand, "wildcard"))
    if not rest:
        return _equals(first)
    *middle, last = rest

    def test(value: str) -> bool:
        if not (value.startswith(first) and value.endswith(last)):
            return False
        start, end = len(first), len(value) - len(last)
        for part in middle:
            start = value.find(part, start, end)
            if start < 0:
                return False
            start += len(part)
        return start <= end

    return _of_text(test)


def _parts(text: str) -> list[str]:
    """Return the literal parts between the asterisks of a wildcard."""
    parts = [""]
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if escaped not in {"*", "\\"}:
                raise _invalid("Invalid escape character at pos " + str(text.index("\\")))
            parts[-1] += escaped
        elif character == "*":
            parts.append("")
        else:
            parts[-1] += character
    if "" in parts[1:-1]:
        raise _invalid("Consecutive wildcard characters")
    return parts


def _numeric(operand: object) -> _Test:
    if not isinstance(operand, list) or len(operand) not in {2, 4}:
        raise _invalid("Value of numeric must be an array of one or two operators and numbers.")
    pairs = [*zip(operand[::2], operand[1::2], strict=True)]
    for sign, bound in pairs:
        if not isinstance(sign, str) or sign not in _COMPARE:
            raise _invalid(f"Unrecognized numeric range operator: {sign}")
        if not _is_number(bound):
            raise _invalid(f"Value of {sign} must be numeric")
        if abs(bound) > MOST_NUMBER:
            raise _invalid(f"Value of {sign} must be between {-MOST_NUMBER} and {MOST_NUMBER}")
    if len(pairs) == 2:
        (lower, bottom), (upper, top) = pairs
        if lower[0] != ">" or upper[0] != "<":
            raise _invalid("Bad numeric range operator: give the lower bound, then the upper")
        if bottom >= top:
            raise _invalid("Bottom must be less than top")
    return lambda value: (
        _is_number(value) and all(_COMPARE[sign](value, bound) for sign, bound in pairs)
    )


def _cidr(operand: object) -> _Test:
    try:
        network = ipaddress.ip_network(_text(operand, "cidr"), strict=False)
    except ValueError as error:
        raise _invalid(f"Malformed CIDR, {error}") from error

    def test(value: str) -> bool:
        try:
            return ipaddress.ip_address(value) in network
        except ValueError:
            return False

    return _of_text(test)


def _anything_but(operand: object) -> _Test:
    if isinstance(operand, dict):
        if len(operand) != 1 or not operand.keys() <= _UNWANTED.keys():
            raise _invalid(f"Value of anything-but must be one of {', '.join(_UNWANTED)}")
        ((name, below),) = operand.items()
        unwanted = [_UNWANTED[name](each) for each in _listed(below)]
    else:
        values = _listed(operand)
        if not (all(map(_is_number, values)) or all(isinstance(each, str) for each in values)):
            raise _invalid("Inside anything but list, either all values are number or string")
        unwanted = [_equals(each) for each in values]
    return lambda value: not any(test(value) for test in unwanted)


def _listed(operand: object) -> list[Any]:
    values = operand if isinstance(operand, list) else [operand]
    if not values:
        raise _invalid("Empty arrays are not allowed")
    return values


_UNWANTED: Mapping[str, Callable[[object], _Test]] = {
    "prefix": _prefix,
    "suffix": _suffix,
    "equals-ignore-case": _equals_ignore_case,
    "wildcard": _wildcard,
}
_CONDITIONS: Mapping[str, Callable[[object], _Test]] = {
    **_UNWANTED,
    "anything-but": _anything_but,
    "cidr": _cidr,
    "numeric": _numeric,
    "exists": lambda _: bool,
}
"""`exists` is here for its name alone: it is about all values of a member."""
