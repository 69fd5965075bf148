"""Hyperparameters as the arguments of the user's program, in the forms that the program declares.

They are `--name value` in the order of the names, as sagemaker-training passes them; but a number
keeps its text, and a boolean or a list has the form of its option. The options are read from the
program's source and from the files beside it that it imports, without running them: `add_argument`
of argparse, `option` of click, `DEFINE_…` of absl, `hydra.main`, and fields and parameters
(options.py). What is computed while the program runs is not seen.
"""

from __future__ import annotations

import ast
import json
import os
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text, decode
from sagemaker_byoc.training.supervisor.program.options import (
    Declared,
    Named,
    Nodes,
    Option,
    Several,
    field_options,
    is_true,
    last_name,
    read_source,
)

# The only texts with a leading - that argparse takes as values; -1e-3 is not one of them.
PLAIN_NEGATIVE = r"-\d+|-\d*\.\d+"
NEGATIVE_EXPONENT = r"-\d{1,50}(\.\d{1,50})?[eE][+-]?\d{1,2}"
TRUE = frozenset({"true", "yes", "on", "1", "t", "y"})
FALSE = frozenset({"false", "no", "off", "0", "f", "n"})
HYDRA_PLAIN = re.compile(r"[\w./:+@%-]+")
"""A text that needs no quotes in an override of hydra."""
MOST_FILES = 20
"""Most files that are read of those that a program imports."""
WORDS_OF_BOOLEANS = {"bool": ("True", ""), "int": ("1", "0")}
"""Words for true and false for each `type` of an option; bool("False") is True."""
NOTHING = Declared({})
ARGPARSE = frozenset({"action", "nargs", "type", "choices"})
"""Keywords that identify a call by another name: `add = parser.add_argument`."""
BY_TYPE = {
    "literal_eval": Several.PYTHON,
    "eval": Several.PYTHON,
    "loads": Several.ONLY_JSON,
}
"""The form of a list for each `type` that reads one text."""


def arguments_for(hyperparameters: Hyperparameters, program: Path) -> list[str]:
    """Return the arguments for `program`."""
    pairs = sorted(pair for pair in hyperparameters.for_program() if pair[0])
    declared = declared_options(program, [key for key, _ in pairs])
    if declared.takes_overrides:
        return [_override(key, raw) for key, raw in pairs]
    return [word for key, raw in pairs for word in _words(declared.find(key), raw)]


def _words(option: Option, raw: str) -> Iterator[str]:
    value, text = decode(raw), as_text(raw)
    truth = value if isinstance(value, bool) else _truth(text) if option.is_boolean else None
    if option.several is Several.ONLY_JSON:
        yield from _pair(option.spelling, json.dumps(value) if value == raw else raw)
    elif option.is_count and re.fullmatch(r"\d{1,2}", text):
        yield from (option.spelling,) * int(text)
    elif truth is not None:
        yield from option.true if truth else option.false
    elif option.is_flag and not text:
        return
    elif isinstance(value, list):
        yield from _several(option, value, raw)
    elif option.several is Several.PAIRS and isinstance(value, dict):
        kept = _kept(raw)
        pairs = ((key, _text(member, kept[key])) for key, member in value.items())
        yield from (option.spelling, *(word for pair in pairs for word in pair))
    elif option.several is Several.PYTHON and (value is None or isinstance(value, dict)):
        yield from _pair(option.spelling, repr(value))
    else:
        yield from _pair(option.spelling, text)


def _truth(text: str) -> bool | None:
    """Return the boolean in `text`; None if it is not one."""
    word = text.strip().lower()
    return True if word in TRUE else False if word in FALSE else None


def _several(option: Option, values: list[Json], raw: str) -> Iterator[str]:
    match option.several:
        case Several.JSON | Several.ONLY_JSON:
            yield from _pair(option.spelling, raw)
        case Several.PYTHON:
            yield from _pair(option.spelling, repr(values))
        case Several.COMMAS:
            yield from _pair(option.spelling, ",".join(_texts(raw)))
        case Several.REPEATED:
            for text in _texts(raw):
                yield from _pair(option.spelling, text)
        case Several.REPEATED_WORDS if values:
            are_lists = all(isinstance(value, list) for value in values)
            for text in map(json.dumps, _kept(raw)) if are_lists else [raw]:
                yield from (option.spelling, *map(_unlike_an_option, _texts(text)))
        case Several.WORDS if values:
            yield from (option.spelling, *map(_unlike_an_option, _texts(raw)))


def _texts(raw: str) -> Sequence[str]:
    """Return the members of a JSON list, each as the text that it would have by itself."""
    return [_text(member, text) for member, text in zip(json.loads(raw), _kept(raw), strict=True)]


def _kept(raw: str) -> Any:
    """Return the document with its numbers as they are written."""
    return json.loads(raw, parse_float=str, parse_int=str)


def _text(member: Json, text: Json) -> str:
    if isinstance(text, str):
        return text
    if isinstance(member, bool):
        return str(member)
    return "" if member is None else json.dumps(member)


def _unlike_an_option(text: str) -> str:
    """Return `text`; a negative number without its exponent, which argparse takes as an option."""
    if not re.fullmatch(NEGATIVE_EXPONENT, text):
        return text
    from decimal import Decimal  # noqa: PLC0415 - few jobs need it

    return f"{Decimal(text):f}"


def _pair(spelling: str, text: str) -> Iterator[str]:
    """Yield two words, or one joined by = if argparse would take the second as an option."""
    if len(text) > 1 and text.startswith("-") and not re.fullmatch(PLAIN_NEGATIVE, text):
        yield f"{spelling}={text}"
    else:
        yield from (spelling, text)


def _override(key: str, raw: str) -> str:
    """Return `name=value` for hydra. A text in JSON's quotes stays one: "1.10" may be a version."""
    value = decode(raw)
    is_whole = not isinstance(value, str | dict | list)
    if is_whole or (value == raw and HYDRA_PLAIN.fullmatch(raw)):
        return f"{key}={raw}"
    return f"{key}={_hydra(value)}"


def _hydra(value: Json) -> str:
    """Return a value in hydra's grammar: JSON with other quotes, and keys without any."""
    match value:
        case str():
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"'{quoted}'"
        case list():
            return f"[{','.join(map(_hydra, value))}]"
        case dict():
            return f"{{{','.join(f'{key}:{_hydra(member)}' for key, member in value.items())}}}"
    return json.dumps(value)


def declared_options(path: Path, keys: Collection[str]) -> Declared:
    """Return what the source in `path` declares; nothing if it can't be parsed.

    Read the files that it imports only if it does not declare all of `keys` itself.
    """
    own = read_source(path) if keys else None
    if own is None:
        return NOTHING  # Python reports what is wrong when it runs the file
    declared = Declared(_options([own]), takes_overrides=_is_hydra(own))
    if declared.takes_overrides or all(map(declared.has, keys)):
        return declared
    imported = filter(None, map(read_source, _imported_files(own, path.parent)))
    return Declared(_options([*imported, own]))


def _options(files: Sequence[Nodes]) -> dict[str, Option]:
    """Return what the files declare; the last one is the program, and wins."""
    calls = [node for nodes in files for node in nodes if isinstance(node, ast.Call)]
    options: dict[str, Option] = {}
    for key, option in (
        *field_options(files),
        *(named for call in calls for named in _named(call)),
    ):
        # A destination of several options stands for the one that switches it off.
        if key.startswith("-") or option.is_inverse:
            options[key] = option
        options.setdefault(key, option)
    return options


def _imported_files(nodes: Nodes, folder: Path) -> Iterator[Path]:
    """Yield the files that the program imports from its folder or the folder above."""
    names: list[str] = []
    for node in nodes:
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level <= 1:
            names += [node.module] if node.module else [alias.name for alias in node.names]
    stems = (
        root.joinpath(*name.split("."))
        for name in dict.fromkeys(names)
        for root in (folder, folder.parent)
    )
    files = (stem.with_name(f"{stem.name}.py") for stem in stems)
    return islice(filter(os.path.isfile, files), MOST_FILES)


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
        several = _how_several(action, kind, keywords)
        if kind in WORDS_OF_BOOLEANS and several is Several.JSON:
            option = Option.with_words(spelling, *WORDS_OF_BOOLEANS[kind])
        else:
            option = Option.with_value(spelling, several)
    destination = last_name(keywords.get("dest"))
    if option.is_inverse and destination not in {None, spelling.lstrip("-").replace("-", "_")}:
        # `--no-shuffle` that stores into `shuffle` can be given under either name.
        yield spelling, Option.flag(spelling)
    else:
        yield spelling, option
    if destination:
        yield destination, option
    if action == "BooleanOptionalAction" and spelling.startswith("--"):
        yield f"--no-{spelling[2:]}", Option.flag(f"--no-{spelling[2:]}", spelling)


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


def _how_several(action: str | None, kind: str | None, keywords: Mapping[str, ast.expr]) -> Several:
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
    """Yield the options of a declaration of click: `--name`, or `--name/--no-name`."""
    on, _, off = (part.strip() for part in declared.partition("/"))
    if is_true(keywords.get("count")):
        option = Option.count(on)
    elif off or is_true(keywords.get("is_flag")) or "flag_value" in keywords:
        option = Option.flag(on, off or None)
    else:
        action = "append" if is_true(keywords.get("multiple")) else None
        option = Option.with_value(on, _how_several(action, None, keywords))
    yield on, option
    if off:
        yield off, Option.flag(off, on)


def _of_absl(kind: str, spelling: str) -> Option:
    if kind in {"bool", "boolean"}:
        # A separate word would be a positional argument, and the flag would be true.
        return Option(spelling, (f"{spelling}=true",), (f"{spelling}=false",), is_boolean=True)
    if kind == "list":
        return Option.with_value(spelling, Several.COMMAS)
    several = Several.REPEATED if kind.startswith("multi_") else Several.JSON
    return Option.with_value(spelling, several)
