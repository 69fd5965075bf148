"""Hyperparameters as a dataclass of the user's own: all that is wrong with them in one error.

    @dataclass
    class Settings:
        epochs: Annotated[int, Range(1)]
        learning_rate: float = 0.1
        optimizer: Literal["adam", "sgd"] = "adam"

A type may be bool, int, float, str, Path, an Enum, Literal, list, tuple, dict, Any, or several of
them joined by `|`. A name may be spelt with - or _.
"""

from __future__ import annotations

import dataclasses
import difflib
import typing
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass
from typing import Any, TypeVar

from sagemaker_byoc.contract.errors import ContractError
from sagemaker_byoc.contract.masking import MASK, is_secret
from sagemaker_byoc.contract.training.hyperparameters import is_reserved
from sagemaker_byoc.training.library.values import (
    Given,
    UnfitError,
    checked,
    convert,
    describe,
    with_rules,
)

T = TypeVar("T")

SHOWN = 60
"""Characters of a wrong value that the error repeats."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One hyperparameter that does not fit; `value` is None where none was given."""

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
        return with_rules(describe(self.kind), list(self.rules))

    def value(self, raw: str) -> Any:
        return checked(convert(Given.whole(raw), self.kind), list(self.rules))


def parse(schema: type[T], raw: Mapping[str, str], *, ignore_unknown: bool = False) -> T:
    """An instance of the dataclass `schema`; raise HyperparameterError with all that is wrong."""
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
    """What to say of a name that the schema has not."""
    nearest = difflib.get_close_matches(name, fields, n=1)
    names = ", ".join(field.name for field in fields.values())
    return f"a known name, perhaps {nearest[0]}" if nearest else f"a known name: {names}"
