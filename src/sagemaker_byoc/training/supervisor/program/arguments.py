"""Hyperparameters as the arguments of the user's program.

As sagemaker-training passes them, `--name value` in the order of the names, but a number keeps its
text, and a boolean or a list has the form that the program declares.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from sagemaker_byoc.contract.files import Json
from sagemaker_byoc.contract.training.hyperparameters import Hyperparameters, as_text, decode
from sagemaker_byoc.training.supervisor.program.declarations import declared_options
from sagemaker_byoc.training.supervisor.program.options import Option, Several

# The only texts with a leading - that argparse takes for a value; -1e-3 is not among them.
PLAIN_NEGATIVE = r"-\d+|-\d*\.\d+"
NEGATIVE_EXPONENT = r"-\d{1,50}(\.\d{1,50})?[eE][+-]?\d{1,2}"
TRUE = frozenset({"true", "yes", "on", "1", "t", "y"})
FALSE = frozenset({"false", "no", "off", "0", "f", "n"})
HYDRA_PLAIN = re.compile(r"[\w./:+@%-]+")
"""What a text of hydra's overrides may be without quotes."""


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
    """The boolean in `text`; None if it is something else."""
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
    """The members of a JSON list, each as the text that it would have by itself."""
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
    """`text`, or a negative number without its exponent, which argparse takes for an option."""
    if not re.fullmatch(NEGATIVE_EXPONENT, text):
        return text
    from decimal import Decimal  # noqa: PLC0415 - few jobs need it, and each pays for its import

    return f"{Decimal(text):f}"


def _pair(spelling: str, text: str) -> Iterator[str]:
    """Two words; one, joined by =, where argparse would take the second for an option."""
    if len(text) > 1 and text.startswith("-") and not re.fullmatch(PLAIN_NEGATIVE, text):
        yield f"{spelling}={text}"
    else:
        yield from (spelling, text)


def _override(key: str, raw: str) -> str:
    """`name=value` for hydra. A text with JSON's quotes stays a text: "1.10" may be a version."""
    value = decode(raw)
    is_whole = not isinstance(value, str | dict | list)
    if is_whole or (value == raw and HYDRA_PLAIN.fullmatch(raw)):
        return f"{key}={raw}"
    return f"{key}={_hydra(value)}"


def _hydra(value: Json) -> str:
    """A value in hydra's grammar: JSON, but for the quotes and the keys of objects."""
    match value:
        case str():
            quoted = value.replace("\\", "\\\\").replace("'", "\\'")
            return f"'{quoted}'"
        case list():
            return f"[{','.join(map(_hydra, value))}]"
        case dict():
            return f"{{{','.join(f'{key}:{_hydra(member)}' for key, member in value.items())}}}"
    return json.dumps(value)
