"""Options that a program declares as fields of dataclasses or as parameters of functions.

Read for transformers' HfArgumentParser, simple-parsing, tyro and typer, from the annotations and
the defaults of classes and functions.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sagemaker_byoc.training.supervisor.program.options import (
    Named,
    Nodes,
    Option,
    Several,
    is_true,
    last_name,
)

LISTS = frozenset({"list", "List", "Sequence", "Iterable", "set", "Set"})
TUPLES = frozenset({"tuple", "Tuple"})
DICTS = frozenset({"dict", "Dict", "Mapping"})


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a dataclass, or a parameter of a function."""

    name: str
    annotation: ast.expr | None
    default: ast.expr | None

    @property
    def kind(self) -> str | None:
        """The last part of its type's name, without Annotated, Optional and None."""
        return last_name(_bare(self.annotation))

    @property
    def takes_words(self) -> bool:
        return self.kind in LISTS | TUPLES


def field_options(files: Sequence[Nodes]) -> Iterator[Named]:
    """Yield the options of the dataclasses and functions that one of the four libraries reads, or
    that the program adds to argparse by their types.

    The last file is the program's own: it uses the library.
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
        if _is_command(function) or function.name in given:
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
    """Return whether it is `add_argument(f"--{field.name}", type=field.type)`."""
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
    """A parameter without a default is a positional argument, unless it says Option."""
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
    """The call of typer.Option or typer.Argument, as the default or inside of Annotated."""
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
        if isinstance(node, ast.ClassDef) and any(
            last_name(d.func if isinstance(d, ast.Call) else d) == "dataclass"
            for d in node.decorator_list
        ):
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


def _is_command(function: ast.FunctionDef) -> bool:
    return any(
        last_name(d.func if isinstance(d, ast.Call) else d) in {"command", "callback"}
        for d in function.decorator_list
    )


def _arguments_of(files: Sequence[Nodes], called: str) -> Iterator[str]:
    """Yield the names that are given to calls of `called`, as in tyro.cli(main)."""
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
    """Return a type without its quotes, Annotated, Optional, None and members."""
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
    """Return the only one of them that is not None; None if there are several."""
    types = [m for m in members if not (isinstance(m, ast.Constant) and m.value is None)]
    return _bare(types[0]) if len(types) == 1 else None
