"""The options that a user's program declares, read from its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path


class Form(Enum):
    """How a declared option takes a boolean."""

    VALUE = auto()
    TRUTHY_TEXT = auto()
    """`type=bool`: any text is true, and only the empty one is false."""
    FLAG_IF_TRUE = auto()
    FLAG_IF_FALSE = auto()
    FLAG_OR_NO_FLAG = auto()
    """`--name` or `--no-name`."""


@dataclass(frozen=True, slots=True)
class Option:
    spelling: str
    form: Form


def declared_options(path: Path) -> dict[str, Option]:
    """The options of every `add_argument` call in a file; none where it can't be parsed."""
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return {}  # Python itself will say what is wrong when it runs the file
    return {option.spelling: option for call in _calls(tree) for option in _options(call)}


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and _last_name(node.func) == "add_argument":
            yield node


def _options(call: ast.Call) -> Iterator[Option]:
    spellings = [
        argument.value
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    for spelling in spellings:
        if spelling.startswith("-"):
            yield Option(spelling, _form(spelling, keywords))


def _form(spelling: str, keywords: dict[str, ast.expr]) -> Form:
    match _last_name(keywords.get("action")):
        case "store_true":
            return Form.FLAG_IF_TRUE
        case "store_false":
            return Form.FLAG_IF_FALSE if _names_its_value(spelling, keywords) else Form.FLAG_IF_TRUE
        case "BooleanOptionalAction":
            return Form.FLAG_OR_NO_FLAG
    return Form.TRUTHY_TEXT if _last_name(keywords.get("type")) == "bool" else Form.VALUE


def _names_its_value(spelling: str, keywords: dict[str, ast.expr]) -> bool:
    """True for `--shuffle` that stores into `shuffle`; false for `--no-shuffle` that does."""
    target = _last_name(keywords.get("dest"))
    return target is None or target == spelling.lstrip("-").replace("-", "_")


def _last_name(node: ast.expr | None) -> str | None:
    """The text of a string, or the last part of a dotted name."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None
