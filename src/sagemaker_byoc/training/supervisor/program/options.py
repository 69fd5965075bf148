"""The options that a user's program declares: what is known of each, and how one is found."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeAlias


class Several(Enum):
    """How a declared option takes a list."""

    JSON = auto()
    """One JSON text."""
    ONLY_JSON = auto()
    """Likewise, and every other value too: `type=json.loads`."""
    PYTHON = auto()
    """One literal of Python's: `type=ast.literal_eval`."""
    WORDS = auto()
    """--name a b"""
    REPEATED = auto()
    """--name a --name b"""
    REPEATED_WORDS = auto()
    """--name a b --name c d, for a list of lists; --name a b for one list."""
    COMMAS = auto()
    """--name=a,b"""
    PAIRS = auto()
    """--name key value, for an object."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option; `true` and `false` are the words that stand for a boolean."""

    spelling: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    is_boolean: bool = False
    """A text such as "False" stands for a boolean too."""
    is_flag: bool = False
    """Takes no value."""
    is_count: bool = False
    """A number says how often it is repeated."""
    several: Several = Several.JSON

    @classmethod
    def with_value(cls, spelling: str, several: Several = Several.JSON) -> Option:
        return cls(spelling, (spelling, "True"), (spelling, "False"), several=several)

    @classmethod
    def with_words(cls, spelling: str, true: str, false: str) -> Option:
        """One whose value is `true` or `false`, and no other word for a boolean."""
        return cls(spelling, (spelling, true), (spelling, false), is_boolean=True)

    @classmethod
    def flag(cls, spelling: str, negated: str | None = None) -> Option:
        """One that is given or not; `negated` is its counterpart, if there is one."""
        false = (negated,) if negated else ()
        return cls(spelling, (spelling,), false, is_boolean=True, is_flag=True)

    @classmethod
    def count(cls, spelling: str) -> Option:
        """One whose value is how often it is given."""
        return cls(spelling, (spelling,), (), is_boolean=True, is_flag=True, is_count=True)

    @classmethod
    def inverse_flag(cls, spelling: str) -> Option:
        """One that is given to switch off what its key names."""
        return cls(spelling, (), (spelling,), is_boolean=True, is_flag=True)

    @property
    def is_switch(self) -> bool:
        """Whether it can only be switched on."""
        return self.is_flag and not self.is_count and bool(self.true) and not self.false

    @property
    def is_inverse(self) -> bool:
        return self.is_flag and not self.true


Nodes: TypeAlias = Sequence[ast.AST]
"""All nodes of one file, the outer ones first."""
Named: TypeAlias = tuple[str, Option]
"""What it is looked up by: a spelling, or a destination."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a program declares."""

    options: Mapping[str, Option]
    """Options by every spelling, and by the name of the destination, which has no dashes."""
    takes_overrides: bool = False
    """`name=value`, as hydra reads them."""

    def find(self, key: str) -> Option:
        """Return the option for `key`, spelled with - or _; an undeclared one as it is written."""
        undeclared = Option.with_value(f"--{key}" if len(key) > 1 else f"-{key}")
        return next(self._found(key), undeclared)

    def has(self, key: str) -> bool:
        return next(self._found(key), None) is not None

    def _found(self, key: str) -> Iterator[Option]:
        for name in (key, key.replace("_", "-"), key.replace("-", "_")):
            option = self.options.get(f"--{name}") or self.options.get(f"-{name}")
            stored = self.options.get(name)
            if option and stored and option.is_switch and stored.is_inverse:
                yield Option.flag(option.spelling, *stored.false)
            found = option or stored
            if found:
                yield found


def nodes_of(tree: ast.Module) -> Nodes:
    """All nodes of a file but Load, Store and Del: half of what ast.walk has, in half its time."""
    nodes: list[ast.AST] = [tree]
    for node in nodes:  # which grows
        for value in vars(node).values():
            if isinstance(value, list):
                nodes += (member for member in value if isinstance(member, ast.AST))
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                nodes.append(value)
    return nodes


def is_true(node: ast.expr | None) -> bool:
    """Whether it is the constant True."""
    return isinstance(node, ast.Constant) and node.value is True


def last_name(node: ast.expr | None) -> str | None:
    """The text of a string, or the last part of a dotted name."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None
