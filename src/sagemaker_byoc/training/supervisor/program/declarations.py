"""What a user's program declares, read from its source without running it.

Understood are `add_argument` of argparse, `option` of click, `DEFINE_…` of absl, `hydra.main`, and
what the fields of dataclasses and the parameters of functions become (fields.py); in the program's
file and in those beside it that it imports. What is computed while the program runs is not seen.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from sagemaker_byoc.training.supervisor.program.options import (
    Declared,
    Named,
    Nodes,
    Option,
    Several,
    field_options,
    is_true,
    last_name,
    nodes_of,
)

MOST_BYTES = 1024 * 1024
"""A larger source is not read."""
MOST_FILES = 20
"""That a program imports, and that are read with it."""
WORDS_OF_BOOLEANS = {"bool": ("True", ""), "int": ("1", "0")}
"""Words for true and false by the `type` of an option; bool("False") is True."""
NOTHING = Declared({})
RELATIVE_IMPORT = re.compile(rb"\bfrom\s*\.")
ARGPARSE = frozenset({"action", "nargs", "type", "choices"})
"""Keywords by which a call is known that has another name: `add = parser.add_argument`."""
BY_TYPE = {
    "literal_eval": Several.PYTHON,
    "eval": Several.PYTHON,
    "loads": Several.ONLY_JSON,
}
"""How a list is written for a `type` that reads one text."""


def declared_options(path: Path, keys: Collection[str]) -> Declared:
    """Return what the source in `path` declares; nothing if it can't be parsed.

    The files that it imports are read only if it does not declare all of `keys` itself.
    """
    own = _read(path) if keys else None
    if own is None:
        return NOTHING  # Python itself will say what is wrong when it runs the file
    declared = Declared(_options([own]), takes_overrides=_is_hydra(own))
    if declared.takes_overrides or all(map(declared.has, keys)):
        return declared
    imported = filter(None, map(_read, _imported_files(own, path.parent)))
    return Declared(_options([*imported, own]))


def _options(files: Sequence[Nodes]) -> dict[str, Option]:
    """Return what the files declare; the last one is the program, and wins."""
    calls = [node for nodes in files for node in nodes if isinstance(node, ast.Call)]
    options: dict[str, Option] = {}
    for key, option in (
        *field_options(files),
        *(named for call in calls for named in _named(call)),
    ):
        # A name that several options store into stands for the one that switches it off.
        if key.startswith("-") or option.is_inverse:
            options[key] = option
        options.setdefault(key, option)
    return options


def _imported_files(nodes: Nodes, folder: Path) -> Iterator[Path]:
    """Yield the files beside the program, or beside its package, that it imports."""
    names: dict[str, None] = {}
    for node in nodes:
        if isinstance(node, ast.Import):
            names |= dict.fromkeys(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level <= 1:
            names |= dict.fromkeys([node.module] if node.module else [a.name for a in node.names])
    stems = (root.joinpath(*name.split(".")) for name in names for root in (folder, folder.parent))
    files = (stem.with_name(f"{stem.name}.py") for stem in stems)
    return islice(filter(os.path.isfile, files), MOST_FILES)


def imports_its_own_package(path: Path) -> bool:
    """Return whether a module imports with a leading dot, unguarded: it can't run as a file."""
    tree = _parse(path, RELATIVE_IMPORT)
    return tree is not None and any(
        isinstance(node, ast.ImportFrom) and node.level for node in tree.body
    )


def _read(path: Path) -> Nodes | None:
    tree = _parse(path)
    return None if tree is None else nodes_of(tree)


def _parse(path: Path, wanted: re.Pattern[bytes] | None = None) -> ast.Module | None:
    """Return the tree of a Python file, if `wanted` is in its text; None if it can't be parsed."""
    try:
        if path.suffix.lower() != ".py" or path.stat().st_size > MOST_BYTES:
            return None
        text = path.read_bytes()
        return ast.parse(text) if wanted is None or wanted.search(text) else None
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _is_hydra(nodes: Nodes) -> bool:
    """Return whether `hydra.main` decorates a function, under that name or imported as `main`."""
    names = {"hydra.main"}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module == "hydra":
            names |= {alias.asname or alias.name for alias in node.names if alias.name == "main"}
    return any(
        isinstance(decorator, ast.Call) and ast.unparse(decorator.func) in names
        for node in nodes
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
    )


def _named(call: ast.Call) -> Iterator[Named]:
    name = last_name(call.func) or ""
    keywords = {keyword.arg: keyword.value for keyword in call.keywords if keyword.arg}
    texts = [
        argument.value
        for argument in call.args
        if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
    ]
    spellings = [text for text in texts if text.startswith("-")]
    if name == "option":
        for spelling in spellings:
            yield from _of_click(spelling, keywords)
    elif name == "add_argument" or not ARGPARSE.isdisjoint(keywords):
        for spelling in spellings:
            yield from _of_argparse(spelling, keywords)
    elif name.startswith("DEFINE_") and texts:
        option = _of_absl(name.removeprefix("DEFINE_"), f"--{texts[0]}")
        yield option.spelling, option


def _of_argparse(spelling: str, keywords: Mapping[str, ast.expr]) -> Iterator[Named]:
    action, kind = last_name(keywords.get("action")), last_name(keywords.get("type"))
    option = _by_action(action, spelling)
    if option is None and _offers(keywords.get("choices"), "true", "false"):
        option = Option.with_words(spelling, "true", "false")
    if option is None:
        option = _with_value(spelling, kind, _several(action, kind, keywords))
    destination = last_name(keywords.get("dest"))
    if option.is_inverse and destination not in {None, spelling.lstrip("-").replace("-", "_")}:
        # `--no-shuffle` that stores into `shuffle` is asked for by either name.
        yield spelling, Option.flag(spelling)
    else:
        yield spelling, option
    if destination:
        yield destination, option
    if action == "BooleanOptionalAction" and spelling.startswith("--"):
        yield f"--no-{spelling[2:]}", Option.flag(f"--no-{spelling[2:]}", spelling)


def _with_value(spelling: str, kind: str | None, several: Several) -> Option:
    if kind in WORDS_OF_BOOLEANS and several is Several.JSON:
        return Option.with_words(spelling, *WORDS_OF_BOOLEANS[kind])
    return Option.with_value(spelling, several)


def _by_action(action: str | None, spelling: str) -> Option | None:
    match action:
        case "store_true" | "store_const" | "append_const":
            return Option.flag(spelling)
        case "store_false":
            return Option.inverse_flag(spelling)
        case "BooleanOptionalAction":
            return Option.flag(spelling, f"--no-{spelling.lstrip('-')}")
        case "count":
            return Option.count(spelling)
    return None


def _several(action: str | None, kind: str | None, keywords: Mapping[str, ast.expr]) -> Several:
    match keywords.get("nargs"):
        case ast.Constant(value="+" | "*" | int()) | ast.Attribute(attr="REMAINDER"):
            is_repeated = action in {"append", "extend"}
            return Several.REPEATED_WORDS if is_repeated else Several.WORDS
    if action in {"append", "extend"}:
        return Several.REPEATED
    return BY_TYPE.get(kind or "", Several.JSON)


def _offers(choices: ast.expr | None, *words: str) -> bool:
    return isinstance(choices, ast.List | ast.Tuple | ast.Set) and {*words} <= {
        last_name(choice) for choice in choices.elts
    }


def _of_click(declared: str, keywords: Mapping[str, ast.expr]) -> Iterator[Named]:
    """`--name`, or `--name/--no-name`."""
    on, _, off = (part.strip() for part in declared.partition("/"))
    if is_true(keywords.get("count")):
        option = Option.count(on)
    elif off or is_true(keywords.get("is_flag")) or "flag_value" in keywords:
        option = Option.flag(on, off or None)
    elif is_true(keywords.get("multiple")):
        option = Option.with_value(on, _several("append", None, keywords))
    else:
        option = Option.with_value(on, _several(None, None, keywords))
    yield on, option
    if off:
        yield off, Option.flag(off, on)


def _of_absl(kind: str, spelling: str) -> Option:
    if kind in {"bool", "boolean"}:
        # A word of its own would be a positional argument, and the flag be true.
        return Option(spelling, (f"{spelling}=true",), (f"{spelling}=false",), is_boolean=True)
    if kind == "list":
        return Option.with_value(spelling, Several.COMMAS)
    return Option.with_value(
        spelling, Several.REPEATED if kind.startswith("multi_") else Several.JSON
    )
