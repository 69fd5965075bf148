"""Hyperparameters as a dataclass that the user declares; one error lists all that is wrong.

    @dataclass
    class Settings:
        epochs: Annotated[int, Range(1)]
        learning_rate: float = 0.1
        optimizer: Literal["adam", "sgd"] = "adam"

A type may be bool, int, float, str, Path, an Enum, Literal, list, tuple, dict, Any, or several of
them joined by `|`. A name may be spelt with - or _. Text stays text: `1.10` for a str is `1.10`.
JSON is decoded once, since some clients send `adam` and others `"adam"` with the quotes.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.contract.training.hyperparameters import decode, is_reserved

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
    """A value as the client sent it: its text, and what the text holds if it is JSON."""

    raw: str
    value: Json
    is_inner: bool = False
    """Whether it is an element of a list or object, whose spelling is lost."""

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
    """Return the value as a `kind`; raise UnfitError if it is not one, TypeError for a bad kind."""
    return _form(kind).convert(given, get_args(kind))


def describe(kind: Any) -> str:
    """Describe a value of `kind` in words; raise TypeError if no hyperparameter can have it."""
    return _form(kind).describe(get_args(kind))


def checked(value: Any, rules: Iterable[Any]) -> Any:
    """Return `value` if it is None or keeps every Range and Choices in `rules`; else UnfitError."""
    for rule in rules:
        if isinstance(rule, Rule) and value is not None and not rule.holds(value):
            raise UnfitError
    return value


def with_rules(text: str, rules: Iterable[Any]) -> str:
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
    """Return the first that fits; null is None, and so is an empty text that fits no other."""
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
    """Return the key whose name was given; True is `true` as well as `True`."""
    for value, name in names.items():
        if given.text == name or (isinstance(value, bool) and given.text == name.lower()):
            return value
    raise UnfitError


def _enum(given: Given, kind: type[Enum]) -> Enum:
    """Return the member by its value or, if none has it, by its name."""
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
    """How a kind of type, given the types in its brackets, converts a value and is described."""

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
        lambda given, inner: checked(convert(given, inner[0]), inner[1:]),
        lambda inner: with_rules(describe(inner[0]), inner[1:]),
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


T = TypeVar("T")

SHOWN = 60
"""Characters of a wrong value that the error repeats."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One hyperparameter that does not fit; `value` is None if it is missing."""

    key: str
    value: str | None
    expected: str

    def __str__(self) -> str:
        if self.value is None:
            return f"{self.key} is missing: expected {self.expected}"
        shown = MASK if is_secret(self.key) else self.value
        if len(shown) > SHOWN:
            shown = f"{shown[:SHOWN]}…"
        return f"{self.key} = {shown!r}: expected {self.expected}"


class HyperparameterError(ContractError):
    """Every hyperparameter that does not fit, in `problems`."""

    def __init__(self, schema: str, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        listed = "\n  ".join(str(problem) for problem in self.problems)
        super().__init__(
            where="hyperparameters",
            what=f"do not fit {schema}:\n  {listed}\n",
            hint="Set them in the job's HyperParameters",
        )


@dataclass(frozen=True, slots=True)
class _Field:
    """One field of the user's dataclass."""

    name: str
    kind: Any
    rules: tuple[Any, ...]
    is_required: bool

    @property
    def expected(self) -> str:
        return with_rules(describe(self.kind), self.rules)

    def value(self, raw: str) -> Any:
        return checked(convert(Given.whole(raw), self.kind), self.rules)


def parse(schema: type[T], raw: Mapping[str, str], *, ignore_unknown: bool = False) -> T:
    """Return an instance of the dataclass `schema`; raise HyperparameterError with all problems."""
    fields = _fields(schema)
    expected = {name: field.expected for name, field in fields.items()}
    values: dict[str, Any] = {}
    problems: list[Problem] = []
    for key, text in raw.items():
        name = _normal(key)
        field = fields.get(name)
        if field is None:
            if not is_reserved(key) and not ignore_unknown:
                problems.append(Problem(key, text, _known(name, fields)))
            continue
        if field.name in values:
            problems.append(Problem(key, text, "one spelling only, with - or with _"))
            continue
        try:
            values[field.name] = field.value(text)
        except UnfitError:
            values[field.name] = None
            problems.append(Problem(key, text, expected[name]))
    problems += [
        Problem(field.name, None, expected[name])
        for name, field in fields.items()
        if field.is_required and field.name not in values
    ]
    if problems:
        raise HyperparameterError(schema.__name__, problems)
    return schema(**values)


def _fields(schema: type) -> dict[str, _Field]:
    if not dataclasses.is_dataclass(schema):
        raise TypeError(f"{schema.__name__} is not a dataclass")
    try:
        kinds = typing.get_type_hints(schema, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"the types of {schema.__name__} can't be resolved ({error}): define it, and what it "
            "names, at the top level of a module"
        ) from error
    return {
        _normal(field.name): _Field(
            name=field.name,
            kind=kinds[field.name],
            rules=tuple(field.metadata.values()),
            is_required=field.default is MISSING and field.default_factory is MISSING,
        )
        for field in dataclasses.fields(schema)
        if field.init
    }


def _normal(key: str) -> str:
    return key.replace("-", "_")


def _known(name: str, fields: Mapping[str, _Field]) -> str:
    """Describe what was expected instead of a name that the schema lacks."""
    nearest = difflib.get_close_matches(name, fields, n=1)
    names = ", ".join(field.name for field in fields.values())
    return f"a known name, perhaps {nearest[0]}" if nearest else f"a known name: {names}"
