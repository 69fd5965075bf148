"""The options that a user's program declares, as data, and the lookup of one.

Also those that are fields of dataclasses or parameters of functions: they are read from annotations
and defaults, for transformers' HfArgumentParser, simple-parsing, tyro and typer.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import TypeAlias


class Several(Enum):
    """How a declared option takes a list."""

    JSON = auto()
    """One JSON text."""
    ONLY_JSON = auto()
    """The same, and for every other value too: `type=json.loads`."""
    PYTHON = auto()
    """One Python literal: `type=ast.literal_eval`."""
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
    """An option. `true` and `false` are the words for a boolean."""

    spelling: str
    true: tuple[str, ...]
    false: tuple[str, ...]
    is_boolean: bool = False
    """A text such as "False" is a boolean too."""
    is_flag: bool = False
    """It takes no value."""
    is_count: bool = False
    """Its value is the number of times that it is given."""
    several: Several = Several.JSON

    @classmethod
    def with_value(cls, spelling: str, several: Several = Several.JSON) -> Option:
        return cls(spelling, (spelling, "True"), (spelling, "False"), several=several)

    @classmethod
    def with_words(cls, spelling: str, true: str, false: str) -> Option:
        """Return an option whose words for a boolean are `true` and `false`."""
        return cls(spelling, (spelling, true), (spelling, false), is_boolean=True)

    @classmethod
    def flag(cls, spelling: str, negated: str | None = None) -> Option:
        """Return an option without a value; `negated` is its counterpart, if it has one."""
        false = (negated,) if negated else ()
        return cls(spelling, (spelling,), false, is_boolean=True, is_flag=True)

    @classmethod
    def count(cls, spelling: str) -> Option:
        """Return an option whose value is the number of times that it is given."""
        return cls(spelling, (spelling,), (), is_boolean=True, is_flag=True, is_count=True)

    @classmethod
    def inverse_flag(cls, spelling: str) -> Option:
        """Return an option that switches off what its key names."""
        return cls(spelling, (), (spelling,), is_boolean=True, is_flag=True)

    @property
    def is_switch(self) -> bool:
        """Whether the option can only switch on."""
        return self.is_flag and not self.is_count and bool(self.true) and not self.false

    @property
    def is_inverse(self) -> bool:
        return self.is_flag and not self.true


LISTS = frozenset({"list", "List", "Sequence", "Iterable", "set", "Set"})
TUPLES = frozenset({"tuple", "Tuple"})
DICTS = frozenset({"dict", "Dict", "Mapping"})
MOST_BYTES = 1024 * 1024
"""A larger source is not read."""
Nodes: TypeAlias = Sequence[ast.AST]
"""All nodes of one file, the outer ones first."""
Named: TypeAlias = tuple[str, Option]
"""An option and the key that finds it: a spelling, or a destination."""


@dataclass(frozen=True, slots=True)
class Declared:
    """What a program declares."""

    options: Mapping[str, Option]
    """Options by every spelling, and by the destination, which has no dashes."""
    takes_overrides: bool = False
    """The program reads `name=value`, as hydra does."""

    def find(self, key: str) -> Option:
        """Return the option for `key`, spelled with - or _; an undeclared one as written."""
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


def parse(path: Path, wanted: re.Pattern[bytes] | None = None) -> ast.Module | None:
    """Return the tree of a Python file, if `wanted` is in its text; None if it can't be parsed."""
    try:
        if path.suffix.lower() != ".py" or path.stat().st_size > MOST_BYTES:
            return None
        text = path.read_bytes()
        return ast.parse(text) if wanted is None or wanted.search(text) else None
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def read_source(path: Path) -> Nodes | None:
    """Return the nodes of a Python file but Load, Store and Del; None if it can't be parsed.

    They are half of what ast.walk returns, in half the time.
    """
    tree = parse(path)
    if tree is None:
        return None
    nodes: list[ast.AST] = [tree]
    for node in nodes:  # which grows
        for value in vars(node).values():
            if isinstance(value, list):
                nodes += (member for member in value if isinstance(member, ast.AST))
            elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
                nodes.append(value)
    return nodes


def is_true(node: ast.expr | None) -> bool:
    """Return whether `node` is the constant True."""
    return isinstance(node, ast.Constant) and node.value is True


def last_name(node: ast.expr | None) -> str | None:
    """Return the text of a string, or the last part of a dotted name."""
    match node:
        case ast.Constant(value=str(text)):
            return text
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return None


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a dataclass, or a parameter of a function."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None

    @property
    def kind(self) -> str | None:
        """The last part of the type's name, without Annotated, Optional and None."""
        return last_name(_bare(self.annotation))

    @property
    def takes_words(self) -> bool:
        return self.kind in LISTS | TUPLES


def field_options(files: Sequence[Nodes]) -> Iterator[Named]:
    """Yield the options of dataclasses and functions.

    One of the four libraries reads them, or the program adds them to argparse by their types. The
    last file is the program, which uses the library.
    """
    used = set(_used(files[-1]))
    if "tyro" in used:
        given = set(_arguments_of(files, "cli"))
        functions = (f for f in _functions(files) if f.name in given)
        for field in (*_dataclass_fields(files), *(p for f in functions for p in _parameters(f))):
            yield from _of_tyro(field)
    elif used & {"HfArgumentParser", "simple_parsing"}:
        for field in _dataclass_fields(files):
            yield from _of_hugging_face(field)
    elif any(map(_takes_types_of_fields, _nodes(files))):
        for field in _dataclass_fields(files):
            yield from _of_plain_argparse(field)
    if "typer" in used:
        yield from _of_commands(files)


def _of_commands(files: Sequence[Nodes]) -> Iterator[Named]:
    given = set(_arguments_of(files, "run"))
    for function in _functions(files):
        if _is_decorated(function, "command", "callback") or function.name in given:
            for field in _parameters(function):
                yield from _of_typer(field)


def _of_plain_argparse(field: Field) -> Iterator[Named]:
    if field.kind == "bool":  # bool("False") is True
        yield f"--{field.name}", Option.with_words(f"--{field.name}", "True", "")


def _of_hugging_face(field: Field) -> Iterator[Named]:
    if field.takes_words or len(field.name) == 1:  # undeclared, it would become -k
        several = Several.WORDS if field.takes_words else Several.JSON
        yield f"--{field.name}", Option.with_value(f"--{field.name}", several)


def _takes_types_of_fields(node: ast.AST) -> bool:
    """Return whether `node` is like `add_argument(f"--{field.name}", type=field.type)`."""
    return (
        isinstance(node, ast.Call)
        and last_name(node.func) == "add_argument"
        and not any(isinstance(argument, ast.Constant) for argument in node.args)
        and any(
            keyword.arg == "type"
            and isinstance(keyword.value, ast.Attribute)
            and keyword.value.attr == "type"
            for keyword in node.keywords
        )
    )


def _of_tyro(field: Field) -> Iterator[Named]:
    name = field.name.replace("_", "-")
    if field.kind == "bool" and field.default is not None:
        yield f"--{name}", Option.flag(f"--{name}", f"--no-{name}")
    elif field.takes_words:
        yield f"--{name}", Option.with_value(f"--{name}", Several.WORDS)
    elif field.kind in DICTS or len(name) == 1:  # undeclared, it would become -l
        several = Several.PAIRS if field.kind in DICTS else Several.JSON
        yield f"--{name}", Option.with_value(f"--{name}", several)


def _of_typer(field: Field) -> Iterator[Named]:
    """Yield the options of a parameter; without a default and Option it is positional."""
    call = _declaration(field)
    if last_name(call.func) == "Argument" if call else field.default is None:
        return
    texts = [text for text in map(last_name, call.args if call else ()) if text]
    plain = f"--{field.name.replace('_', '-')}"
    negated = plain.replace("--", "--no-", 1)
    spellings = [text for text in texts if text.startswith("-")]
    for declared in spellings or [f"{plain}/{negated}" if field.kind == "bool" else plain]:
        on, _, off = (part.strip() for part in declared.partition("/"))
        if field.kind == "bool":
            yield on, Option.flag(on, off or None)
        elif call and any(k.arg == "count" and is_true(k.value) for k in call.keywords):
            yield on, Option.count(on)
        elif field.kind in LISTS:
            yield on, Option.with_value(on, Several.REPEATED)
        else:
            several = Several.WORDS if field.kind in TUPLES else Several.JSON
            yield on, Option.with_value(on, several)


def _declaration(field: Field) -> ast.Call | None:
    """Return the call of typer.Option or typer.Argument, as the default or in Annotated."""
    candidates = [field.default]
    if isinstance(field.annotation, ast.Subscript):
        inner = field.annotation.slice
        candidates += inner.elts if isinstance(inner, ast.Tuple) else []
    for node in candidates:
        if isinstance(node, ast.Call) and last_name(node.func) in {"Option", "Argument"}:
            return node
    return None


def _nodes(files: Sequence[Nodes]) -> Iterator[ast.AST]:
    return (node for nodes in files for node in nodes)


def _dataclass_fields(files: Sequence[Nodes]) -> Iterator[Field]:
    for node in _nodes(files):
        if isinstance(node, ast.ClassDef) and _is_decorated(node, "dataclass"):
            for line in node.body:
                if isinstance(line, ast.AnnAssign) and isinstance(line.target, ast.Name):
                    yield Field(line.target.id, line.annotation, line.value)


def _parameters(function: ast.FunctionDef) -> Iterator[Field]:
    arguments = function.args
    positional = (*arguments.posonlyargs, *arguments.args)
    absent: list[ast.expr | None] = [None] * (len(positional) - len(arguments.defaults))
    for argument, default in (
        *zip(positional, (*absent, *arguments.defaults), strict=True),
        *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
    ):
        yield Field(argument.arg, argument.annotation, default)


def _functions(files: Sequence[Nodes]) -> Iterator[ast.FunctionDef]:
    return (node for node in _nodes(files) if isinstance(node, ast.FunctionDef))


def _is_decorated(node: ast.ClassDef | ast.FunctionDef, *names: str) -> bool:
    decorators = (d.func if isinstance(d, ast.Call) else d for d in node.decorator_list)
    return any(last_name(decorator) in names for decorator in decorators)


def _arguments_of(files: Sequence[Nodes], called: str) -> Iterator[str]:
    """Yield the names of the arguments of calls of `called`, such as main in tyro.cli(main)."""
    for node in _nodes(files):
        if isinstance(node, ast.Call) and last_name(node.func) == called:
            yield from (name for name in map(last_name, node.args) if name)


def _used(nodes: Nodes) -> Iterator[str]:
    """Yield the names that a module imports and uses, with the first parts of modules' names."""
    for node in nodes:
        match node:
            case ast.ImportFrom(module=str(module), names=aliases):
                yield from (module.partition(".")[0], *(alias.name for alias in aliases))
            case ast.Import(names=aliases):
                yield from (alias.name.partition(".")[0] for alias in aliases)
            case ast.Attribute(attr=name):
                yield name


def _bare(node: ast.expr | None) -> ast.expr | None:
    """Return a type without quotes, Annotated, Optional, None and the types of its members."""
    match node:
        case ast.Constant(value=str(text)):
            return _bare(_parsed(text))
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _alone([left, right])
        case ast.Subscript(value=outer, slice=inner):
            members = inner.elts if isinstance(inner, ast.Tuple) else [inner]
            if last_name(outer) in {"Annotated", "Optional", "Union"}:
                return _alone(members[:1] if last_name(outer) == "Annotated" else members)
            return outer
    return node


def _parsed(text: str) -> ast.expr | None:
    try:
        return ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _alone(members: list[ast.expr]) -> ast.expr | None:
    """Return the only member that is not None; None if there are several."""
    types = [m for m in members if not (isinstance(m, ast.Constant) and m.value is None)]
    return _bare(types[0]) if len(types) == 1 else None
