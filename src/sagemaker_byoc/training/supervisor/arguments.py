"""Hyperparameters as the arguments of the user's program.

As sagemaker-training passes them, `--name value` in the order of the names, with its losses mended:
numbers keep their text, lists and objects stay JSON, and a boolean has the form that the program
declares.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from sagemaker_byoc.contract.hyperparameters import Hyperparameters, as_text, decode
from sagemaker_byoc.training.supervisor.options import Form, Option, declared_options

# The only texts with a leading - that argparse takes for a value; -1e-3 is not among them.
PLAIN_NEGATIVE = r"-\d+|-\d*\.\d+"


def arguments_for(hyperparameters: Hyperparameters, program: Path) -> list[str]:
    """The arguments for `program`."""
    pairs = sorted(pair for pair in hyperparameters.for_program() if pair[0])
    is_readable = program.suffix == ".py" and any(_asks(key, raw) for key, raw in pairs)
    declared = declared_options(program) if is_readable else {}
    return [word for key, raw in pairs for word in _words(key, raw, declared)]


def _asks(key: str, raw: str) -> bool:
    """Whether the right words depend on what the program declares."""
    return "-" in key or "_" in key or isinstance(decode(raw), bool)


def _words(key: str, raw: str, declared: Mapping[str, Option]) -> Iterator[str]:
    option = _option(key, declared)
    value = decode(raw)
    if isinstance(value, bool):
        yield from _boolean(option, is_true=value)
    else:
        yield from _pair(option.spelling, as_text(raw))


def _option(key: str, declared: Mapping[str, Option]) -> Option:
    """The declared option for `key`, be it spelled with - or _; an undeclared one as it is."""
    spelling = f"--{key}" if len(key) > 1 else f"-{key}"
    for name in (key, key.replace("_", "-"), key.replace("-", "_")):
        for dashes in ("--", "-"):
            if dashes + name in declared:
                return declared[dashes + name]
    return Option(spelling, Form.VALUE)


def _boolean(option: Option, *, is_true: bool) -> Iterator[str]:
    match option.form:
        case Form.VALUE:
            yield from (option.spelling, str(is_true))
        case Form.TRUTHY_TEXT:
            yield from (option.spelling, "True" if is_true else "")
        case Form.FLAG_OR_NO_FLAG:
            yield option.spelling if is_true else f"--no-{option.spelling.lstrip('-')}"
        case Form.FLAG_IF_TRUE if is_true:
            yield option.spelling
        case Form.FLAG_IF_FALSE if not is_true:
            yield option.spelling


def _pair(spelling: str, text: str) -> Iterator[str]:
    """Two words; one, joined by =, where argparse would take the second for an option."""
    if len(text) > 1 and text.startswith("-") and not re.fullmatch(PLAIN_NEGATIVE, text):
        yield f"{spelling}={text}"
    else:
        yield from (spelling, text)
