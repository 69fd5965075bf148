"""The subset of JSONPath that filters of a transform job may use.

Source: developer guide, batch-transform-data-processing. No JSONPath library has these rules: the
end of a slice is included, several names give an object, and an index outside of its array is an
error.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, TypeVar

T = TypeVar("T")

_NAME = r"""'[^'"\[\]]*'|"[^'"\[\]]*\""""
_NUMBER = r"-?\d{1,9}"
_STEP = re.compile(
    rf"""
      \.(?P<dotted>[^\s.\[\]*'"()?@,:$]+)
    | \.?(?P<all>\*) | \.?\[\s*(?P<every>\*)\s*\]
    | \.?\[\s*(?P<names>(?:{_NAME})(?:\s*,\s*(?:{_NAME}))*)\s*\]
    | \.?\[\s*(?P<numbers>{_NUMBER}(?:\s*,\s*{_NUMBER})*)\s*\]
    | \.?\[\s*(?P<start>{_NUMBER})?\s*:\s*(?P<end>{_NUMBER})?\s*\]
    """,
    re.VERBOSE,
)
_RANGES = re.compile(r"\[([^\]]*:[^\]]*)\]")


class JsonPathError(ValueError):
    """A path that is not of the subset, or that selects what a record lacks."""


Pick: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True)
class _Step:
    pick: Pick
    """Return the value, or the list of values if the step `is_several`."""
    is_several: bool
    columns: Callable[[Sequence[Any]], list[Any]] | None = None
    """Return the elements of an array; None for a step that needs names."""
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    start: int | None = None
    """The start of a range that has no end."""


@dataclass(frozen=True, slots=True)
class JsonPath:
    text: str
    _steps: tuple[_Step, ...]

    @property
    def is_root(self) -> bool:
        """Return whether it is `$`, which selects everything."""
        return not self._steps

    @property
    def is_of_columns(self) -> bool:
        """Return whether it can be applied to a row of CSV, which is an array of columns."""
        return len(self._steps) < 2 and all(step.columns is not None for step in self._steps)

    @property
    def numbers(self) -> tuple[int, ...]:
        """The indexes, if the path is nothing else."""
        return self._steps[0].numbers if len(self._steps) == 1 else ()

    @property
    def start(self) -> int | None:
        """The start of a range without an end, if the path is nothing else and counts forwards."""
        return self._steps[0].start if len(self._steps) == 1 else None

    def select(self, value: Any) -> Any:
        """Return the selected part of a JSON value. Raise JsonPathError if it has none."""
        return _walk(value, self._steps)

    def columns(self, row: Sequence[T]) -> list[T]:
        """Return the selected columns of a row. Raise JsonPathError if it lacks one."""
        if not self._steps:
            return [*row]
        pick = self._steps[0].columns
        assert pick is not None
        return pick(row)


def parse(text: str) -> JsonPath:
    """Return the path. Raise JsonPathError in SageMaker's words."""
    if not text.startswith("$"):
        raise JsonPathError(f"Invalid JsonPath: {text}: it must begin with $")
    steps: list[_Step] = []
    at = 1
    while at < len(text):
        match = _STEP.match(text, at)
        if match is None:
            raise _refusal(text, at)
        steps.append(_step(match))
        at = match.end()
    return JsonPath(text, tuple(steps))


def _refusal(text: str, at: int) -> JsonPathError:
    ranges = _RANGES.match(text, at)
    if ranges is not None and "," in ranges[1]:  # SageMaker's own words
        return JsonPathError(
            f"Invalid JsonPath: {text}: only single range filters of format (eg: [1:5]) are "
            f"supported. Format {ranges[0]} is not supported"
        )
    return JsonPathError(
        f"Invalid JsonPath: {text}: {text[at:]!r} is not one of the supported operators "
        "$ .<name> * ['<name>' (,'<name>')] [<number> (,<number>)] [<start>:<end>]"
    )


def _step(match: re.Match[str]) -> _Step:
    found = match.groupdict()
    if found["dotted"] is not None:
        return _named((found["dotted"],))
    if found["names"] is not None:
        quoted = re.findall(_NAME, found["names"])
        return _named(tuple(name[1:-1] for name in quoted))
    if found["numbers"] is not None:
        numbers = tuple(int(number) for number in found["numbers"].split(","))

        def columns(array: Sequence[Any]) -> list[Any]:
            return [_element(array, number) for number in numbers]

        if len(numbers) > 1:
            return replace(_of_array(columns), numbers=numbers)
        return _Step(
            lambda value: _element(_array(value), numbers[0]),
            is_several=False,
            columns=columns,
            numbers=numbers,
        )
    if found["all"] or found["every"]:
        return _Step(_children, is_several=True, columns=list)
    start, end = (None if found[name] is None else int(found[name]) for name in ("start", "end"))
    step = _of_array(lambda array: _slice(array, start, end))
    return replace(step, start=start if end is None and (start or 0) >= 0 else None)


def _named(names: tuple[str, ...]) -> _Step:
    if len(names) == 1:
        return _Step(lambda value: _member(value, names[0]), is_several=False)
    return _Step(
        lambda value: [_member(value, name) for name in names], is_several=True, names=names
    )


def _of_array(columns: Callable[[Sequence[Any]], list[Any]]) -> _Step:
    return _Step(lambda value: columns(_array(value)), is_several=True, columns=columns)


def _walk(value: Any, steps: Sequence[_Step]) -> Any:
    for number, step in enumerate(steps, 1):
        value = step.pick(value)
        if step.is_several:
            rest = steps[number:]
            found = [_walk(each, rest) for each in value] if rest else value
            return dict(zip(step.names, found, strict=True)) if step.names and not rest else found
    return value


def _children(value: Any) -> list[Any]:
    return [*value.values()] if isinstance(value, dict) else [*_array(value)]


def _member(value: Any, name: str) -> Any:
    if not isinstance(value, dict):
        raise JsonPathError(f"there is no attribute {name!r} in {_kind(value)}")
    if name not in value:
        raise JsonPathError(f"there is no attribute {name!r}, but {', '.join(value) or 'none'}")
    return value[name]


def _array(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise JsonPathError(f"an index needs an array, not {_kind(value)}")
    return value


def _element(array: Sequence[T], number: int) -> T:
    if not -len(array) <= number < len(array):
        raise _outside(number, len(array))
    return array[number]


def _slice(array: Sequence[T], start: int | None, end: int | None) -> list[T]:
    """Return the elements from `start` to `end`, both included."""
    size = len(array)
    for number in (start, end):
        if number is not None and not -size <= number < size:
            raise _outside(number, size)
    first = 0 if start is None else start % size
    last = size - 1 if end is None else end % size
    return [*array[first : last + 1]]


def _outside(number: int, size: int) -> JsonPathError:
    return JsonPathError(f"index {number} is outside of the {size} elements or columns")


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", dict: "an object", list: "an array", str: "a string"}
    return names.get(type(value), "a number")
