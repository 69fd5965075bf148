"""One hyperparameter's text as a value of the type that a schema declares.

Text stays text: `1.10` for a str is `1.10`. JSON is decoded once, since some clients send `adam`
and others `"adam"` with the quotes.
"""

from __future__ import annotations

import json
import types
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.training.hyperparameters import decode

TRUE = frozenset({"true", "1", "yes"})
FALSE = frozenset({"false", "0", "no"})
NULL = type(None)


class UnfitError(Exception):
    """The text is not a value of the type; the caller adds the key and the type."""


@dataclass(frozen=True, slots=True)
class Range:
    """From `low` to `high`, both included; None means unlimited."""

    low: float | None = None
    high: float | None = None

    def holds(self, value: Any) -> bool:
        # Not value < low: a NaN is in no range.
        return (self.low is None or value >= self.low) and (self.high is None or value <= self.high)

    def __str__(self) -> str:
        low = "" if self.low is None else f" from {self.low:g}"
        high = "" if self.high is None else f" up to {self.high:g}"
        return (low + high).strip()


@dataclass(frozen=True, init=False, slots=True)
class Choices:
    """One of the values, of the field's own type."""

    values: tuple[Any, ...]

    def __init__(self, *values: Any) -> None:
        object.__setattr__(self, "values", values)

    def holds(self, value: Any) -> bool:
        return value in self.values

    def __str__(self) -> str:
        return f"among {', '.join(str(value) for value in self.values)}"


Rule = Range | Choices


@dataclass(frozen=True, slots=True)
class Given:
    """What was given: the text as it stood there, and what it holds where it is JSON."""

    raw: str
    value: Json
    is_inner: bool = False
    """An element of a list or object, whose spelling is not kept."""

    @classmethod
    def whole(cls, raw: str) -> Given:
        return cls(raw, decode(raw))

    @classmethod
    def inner(cls, value: Json) -> Given:
        return cls(json.dumps(value), value, is_inner=True)

    @property
    def text(self) -> str:
        return self.value if isinstance(self.value, str) else self.raw


def convert(given: Given, kind: Any) -> Any:
    """The value of type `kind`; raise UnfitError where there is none, TypeError for a bad kind."""
    return _form(kind).convert(given, get_args(kind))


def describe(kind: Any) -> str:
    """What a value of `kind` looks like; raise TypeError where none could."""
    return _form(kind).describe(get_args(kind))


def checked(value: Any, rules: list[Any]) -> Any:
    """`value` itself, if it is None or keeps every rule among `rules`."""
    for rule in rules:
        if isinstance(rule, Rule) and value is not None and not rule.holds(value):
            raise UnfitError
    return value


def with_rules(text: str, rules: list[Any]) -> str:
    return " ".join([text, *(str(rule) for rule in rules if isinstance(rule, Rule))])


def _text(given: Given) -> str:
    if given.is_inner and not isinstance(given.value, str):
        raise UnfitError  # 1.10 in a list came as a number, and its text is lost
    return given.text


def _int(given: Given) -> int:
    try:
        return int(given.text)
    except ValueError:
        number = _float(given)
        if not number.is_integer():
            raise UnfitError from None
        return int(number)


def _float(given: Given) -> float:
    try:
        return float(given.text)
    except ValueError:
        raise UnfitError from None


def _bool(given: Given) -> bool:
    text = given.text.lower()
    if text not in TRUE | FALSE:
        raise UnfitError
    return text in TRUE


def _union(given: Given, kinds: tuple[Any, ...]) -> Any:
    """The first that fits; null, and an empty text that nothing else takes, for None."""
    is_optional = NULL in kinds
    if is_optional and given.value is None:
        return None
    for kind in kinds:
        if kind is not NULL:
            try:
                return convert(given, kind)
            except UnfitError:
                continue
    if is_optional and given.text == "":
        return None
    raise UnfitError


def _member(given: Given, names: Mapping[Any, str]) -> Any:
    """The key whose name was given; True is `true` as well as `True`."""
    for value, name in names.items():
        if given.text == name or (isinstance(value, bool) and given.text == name.lower()):
            return value
    raise UnfitError


def _enum(given: Given, kind: type[Enum]) -> Enum:
    """By value or, where that fits none, by name."""
    try:
        found: Enum = _member(given, {member: str(member.value) for member in kind})
    except UnfitError:
        found = _member(given, {member: member.name for member in kind})
    return found


def _list(given: Given, kinds: tuple[Any, ...]) -> list[Any]:
    if not isinstance(given.value, list):
        raise UnfitError
    kind = kinds[0] if kinds else Any
    return [convert(Given.inner(item), kind) for item in given.value]


def _tuple(given: Given, kinds: tuple[Any, ...]) -> tuple[Any, ...]:
    if not kinds or kinds[-1] is Ellipsis:
        return tuple(_list(given, kinds[:1]))
    if not isinstance(given.value, list) or len(given.value) != len(kinds):
        raise UnfitError
    pairs = zip(given.value, kinds, strict=True)
    return tuple(convert(Given.inner(item), kind) for item, kind in pairs)


def _dict(given: Given, kinds: tuple[Any, ...]) -> dict[Any, Any]:
    if not isinstance(given.value, dict):
        raise UnfitError
    key, kind = kinds or (str, Any)
    return {
        convert(Given.whole(name) if key is not str else Given.inner(name), key): convert(
            Given.inner(item), kind
        )
        for name, item in given.value.items()
    }


def _union_text(kinds: tuple[Any, ...]) -> str:
    names = [describe(kind) for kind in kinds if kind is not NULL]
    return " or ".join([*names, "null"] if NULL in kinds else names)


def _json_text(shape: str, kinds: tuple[Any, ...]) -> str:
    names = [describe(kind) for kind in kinds if kind is not Ellipsis]
    return f"a JSON {shape}" + (f" of {', '.join(names)}" if names else "")


def _choice_text(names: Iterable[Any]) -> str:
    return f"one of {', '.join(str(name) for name in names)}"


@dataclass(frozen=True, slots=True)
class _Form:
    """How one kind of type takes a value, given what stands in its brackets, and is described."""

    convert: Callable[[Given, tuple[Any, ...]], Any]
    describe: Callable[[tuple[Any, ...]], str]


def _plain(convert: Callable[[Given], Any], text: str) -> _Form:
    return _Form(lambda given, _: convert(given), lambda _: text)


_UNION = _Form(_union, _union_text)

FORMS: Mapping[Any, _Form] = {
    bool: _plain(_bool, "true or false"),
    int: _plain(_int, "an int"),
    float: _plain(_float, "a float"),
    str: _plain(_text, "a text"),
    Path: _plain(lambda given: Path(_text(given)), "a path"),
    Any: _plain(lambda given: given.value, "anything"),
    list: _Form(_list, lambda kinds: _json_text("list", kinds)),
    tuple: _Form(_tuple, lambda kinds: _json_text("list", kinds)),
    dict: _Form(_dict, lambda kinds: _json_text("object", kinds)),
    Literal: _Form(
        lambda given, values: _member(given, {value: str(value) for value in values}),
        _choice_text,
    ),
    Annotated: _Form(
        lambda given, inner: checked(convert(given, inner[0]), list(inner[1:])),
        lambda inner: with_rules(describe(inner[0]), list(inner[1:])),
    ),
    Union: _UNION,
    types.UnionType: _UNION,
}


def _form(kind: Any) -> _Form:
    form = FORMS.get(get_origin(kind) or kind)
    if form is not None:
        return form
    if isinstance(kind, type) and issubclass(kind, Enum):
        return _Form(
            lambda given, _: _enum(given, kind),
            lambda _: _choice_text(member.value for member in kind),
        )
    raise TypeError(f"{kind} is not a type for a hyperparameter")
